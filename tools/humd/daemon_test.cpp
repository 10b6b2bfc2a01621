// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "tools/http/http_client.h"
#include "tools/humd/daemon_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/base/testing.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

using namespace testing;
using std::chrono::steady_clock;

constexpr std::chrono::seconds patience{20};

// The real program in a place of its own; ended with SIGKILL at the latest.
class DaemonProcess {
 public:
  // before_exec: called in the new process.
  explicit DaemonProcess(
      const DaemonPlace& place, const std::function<void()>& before_exec = [] {})
      : place_(place), pid_(::fork()) {
    if (pid_ != 0) return;
    before_exec();
    const std::string state = place.folders().state;
    const std::string run = place.folders().run;
    const std::string errors = run + "/errors";
    if (std::freopen(errors.c_str(), "a", stderr) == nullptr) ::_exit(1);
    ::execl(HUM_DAEMON_PROGRAM, HUM_DAEMON_PROGRAM, "--state", state.c_str(), "--run", run.c_str(), "--vmm",
            HUM_FAKE_VMM, nullptr);
    ::_exit(1);
  }
  ~DaemonProcess() { end(SIGKILL); }
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  pid_t pid() const { return pid_; }
  HttpReply call(const std::string& method, const std::string& target, const std::string& body = {}) const {
    HttpCall request;
    request.method = method;
    request.target = target;
    request.body = body;
    for (const auto late = steady_clock::now() + patience;;) {
      try {
        return blocking_http_call(place_.folders().socket(), request, patience);
      } catch (const HostError&) {
        if (steady_clock::now() > late) throw;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  // The status that waitpid gives; -1: it was awaited before.
  int end(int signal) {
    if (pid_ <= 0) return -1;
    ::kill(pid_, signal);
    return wait();
  }
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }
  std::string errors() const {
    std::ifstream file(place_.folders().run / "errors");
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  const DaemonPlace& place_;
  pid_t pid_;
};

constexpr const char* web = R"({"name": "web", "kernel": "/no/kernel"})";

}  // namespace

TEST_CASE("a daemon that is asked to end ends, its VMs do not, and the next one has them") {
  const DaemonPlace place;
  {
    DaemonProcess daemon(place);
    CHECK(daemon.call("POST", "/v1/vms?start=true&wait_s=20", web).status == 200);
    const int status = daemon.end(SIGTERM);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  CHECK(place.processes().size() == 1);
  CHECK_FALSE(std::filesystem::exists(place.folders().socket()));
  const DaemonProcess daemon(place);
  CHECK(daemon.call("GET", "/v1/vms/web").body.find(R"("state":"running")") != std::string::npos);
  CHECK(daemon.call("DELETE", "/v1/vms/web?force=true&wait_s=20").status == 200);
  CHECK(place.untidy({}, {}) == "");
}

TEST_CASE("a second daemon in the same place is refused, and the first serves on") {
  const DaemonPlace place;
  const DaemonProcess daemon(place);
  CHECK(daemon.call("GET", "/v1/version").status == 200);
  DaemonProcess second(place);
  const int status = second.wait();
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 2);
  CHECK(second.errors().find("another humd uses it") != std::string::npos);
  CHECK(daemon.call("GET", "/v1/version").status == 200);
}

TEST_CASE("a daemon tells who started it when it is ready, and serves the socket that was opened for it") {
  const DaemonPlace place;
  const std::string path = place.folders().socket();
  const std::string ready = place.folders().run / "ready";
  const Fd heard(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const UnixAddress heard_at = UnixAddress::of("path", ready);
  REQUIRE(::bind(heard.get(), heard_at.get(), heard_at.size()) == 0);
  const Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UnixAddress address = UnixAddress::of("path", path);
  REQUIRE(::bind(listener.get(), address.get(), address.size()) == 0);
  REQUIRE(::listen(listener.get(), 8) == 0);
  DaemonProcess daemon(place, [&] {
    ::dup2(listener.get(), 3);
    ::setenv("NOTIFY_SOCKET", ready.c_str(), 1);
    ::setenv("LISTEN_FDS", "1", 1);
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  });
  pollfd entry{.fd = heard.get(), .events = POLLIN, .revents = 0};
  REQUIRE(::poll(&entry, 1, 20'000) == 1);
  std::array<char, 64> text{};
  const ssize_t count = ::read(heard.get(), text.data(), text.size());
  CHECK(std::string(text.data(), count > 0 ? static_cast<std::size_t>(count) : 0) == "READY=1");
  CHECK(daemon.call("GET", "/v1/version").status == 200);
  daemon.end(SIGTERM);
  CHECK(std::filesystem::exists(path));  // it is systemd's
}

}  // namespace hum
