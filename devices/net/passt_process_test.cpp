// SPDX-License-Identifier: Apache-2.0
#include "devices/net/passt_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "devices/net/passt_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using testing::comes_true;
using testing::FakePasst;

struct Sockets {
  Sockets() {
    std::array<int, 2> pair{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
    ours = Fd(pair[0]);
    theirs = Fd(pair[1]);
  }
  Fd ours;
  Fd theirs;
};

bool ready(int fd, int milliseconds = 20000) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, milliseconds) == 1;
}

// Of a passt that ends by itself.
std::string reason_of(const std::string& body) {
  const Sockets sockets;
  const FakePasst fake(body);
  PasstProcess process(fake.path(), {}, sockets.theirs.get());
  REQUIRE(ready(process.end_fd()));
  CHECK_FALSE(process.has_started());
  return process.reason();
}

}  // namespace

TEST_CASE(
    "passt gets its socket as descriptor 3, our words before those that are given, and says when it serves") {
  const Sockets sockets;
  const FakePasst fake("printf hello >&3; echo $$; exec cat <&3 >/dev/null");
  PasstProcess process(fake.path(), {"--mtu", "1500"}, sockets.theirs.get());
  REQUIRE(ready(process.start_fd()));
  CHECK(process.has_started());
  CHECK_FALSE(ready(process.end_fd(), 0));
  CHECK(fake.file("words") == "--foreground --quiet --pid /proc/self/fd/1 --fd 3 --mtu 1500\n");
  std::array<char, 5> text{};
  CHECK(::recv(sockets.ours.get(), text.data(), text.size(), MSG_WAITALL) == 5);
}

TEST_CASE("passt inherits no other descriptor, no blocked signal, and is in a session of its own") {
  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Fd leak(::fcntl(null.get(), F_DUPFD, 20));  // without O_CLOEXEC
  REQUIRE(leak);
  const Sockets sockets;
  sigset_t blocked;
  sigset_t before;
  sigfillset(&blocked);
  REQUIRE(::pthread_sigmask(SIG_BLOCK, &blocked, &before) == 0);
  // A shell keeps its script as 10 or 255, and blocks signals itself while it starts a program.
  const FakePasst fake(R"sh(for i in 4 5 6 7 8 9 11 12 13 14 15 16 17 18 19 $leak; do
  if [ -e /proc/$$/fd/$i ]; then others="$others $i"; fi
done
while read -r key value; do case $key in SigBlk:) blocked=$value ;; esac; done < /proc/$$/status
read -r number name state parent group session rest < /proc/$$/stat
echo "others:$others blocked:$blocked own:$((session == $$))" > $folder/found
echo $$; exec cat <&3 >/dev/null)sh");
  const std::string number = std::to_string(leak.get());
  REQUIRE(::setenv("leak", number.c_str(), 1) == 0);
  PasstProcess process(fake.path(), {}, sockets.theirs.get());
  REQUIRE(::unsetenv("leak") == 0);
  REQUIRE(::pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  REQUIRE(ready(process.start_fd()));
  CHECK(fake.file("found") == "others: blocked:0000000000000000 own:1\n");
}

TEST_CASE("a passt whose socket's other end is closed ends by itself, and is not waited for before that") {
  std::optional<Sockets> sockets(std::in_place);
  const FakePasst fake(FakePasst::well);
  PasstProcess process(fake.path(), {}, sockets->theirs.get());
  REQUIRE(ready(process.start_fd()));
  CHECK_FALSE(ready(process.end_fd(), 50));
  sockets.reset();
  CHECK(ready(process.end_fd()));
  CHECK(process.reason() == "it ended with exit code 0");
}

TEST_CASE("a passt that is in nobody's interest any more is ended and reaped") {
  pid_t pid = -1;
  {
    const Sockets sockets;
    const FakePasst fake("trap '' TERM INT; echo $$; while :; do sleep 100; done");
    PasstProcess process(fake.path(), {}, sockets.theirs.get());
    pid = process.pid();
    REQUIRE(ready(process.start_fd()));
  }
  CHECK(::kill(pid, 0) != 0);
  CHECK(errno == ESRCH);
}

TEST_CASE("the reason of an end is passt's last message, without the noise around it") {
  CHECK(reason_of("echo 'Something first' >&2; echo 'Failed to send 38 bytes to syslog' >&2;"
                  "echo 'Invalid port specifier 22:99999' >&2; echo >&2; exit 1") ==
        "Invalid port specifier 22:99999");
  CHECK(reason_of("printf 'no end of line' >&2; exit 1") == "no end of line");
  CHECK(reason_of("echo 'Failed to send 38 bytes to syslog' >&2; exit 3") == "it ended with exit code 3");
  CHECK(reason_of("exit 1") == "it ended with exit code 1");
  CHECK(reason_of("echo 'Client closed connection' >&2; exit 0") == "it ended with exit code 0");
  CHECK(reason_of("echo 'Do not run as root' >&2; kill -9 $$") == "signal 9 ended it");
}

TEST_CASE("a passt that talks without end is not held up, and only its last words are kept") {
  const Sockets sockets;
  const FakePasst fake(
      "i=0; while [ $i -lt 3000 ]; do echo \"message $i of a passt that talks a lot\" >&2;"
      "i=$((i + 1)); done; echo the end >&2; exit 1");
  PasstProcess process(fake.path(), {}, sockets.theirs.get());
  while (!ready(process.end_fd(), 0)) {
    REQUIRE(ready(process.messages_fd()));
    process.hear();
  }
  CHECK(process.reason() == "the end");
}

TEST_CASE("a program that cannot be started is an error of the host") {
  const Sockets sockets;
  CHECK_THROWS_AS(PasstProcess("/nowhere/passt", {}, sockets.theirs.get()), HostError);
  CHECK_THROWS_AS(PasstProcess("/dev/null", {}, sockets.theirs.get()), HostError);
}

}  // namespace hum
