// SPDX-License-Identifier: Apache-2.0
#include "devices/vsock/vsock_listener.h"

#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "devices/vsock/testing.h"

namespace hum::testing {
namespace {

using namespace std::chrono_literals;

struct Bench {
  explicit Bench(std::chrono::milliseconds patience = 10s)
      : listener("vsock.socket", folder / "v", patience) {}

  // Serves what there is within the time.
  void serve(std::chrono::milliseconds time = 0ms) {
    const auto end = std::chrono::steady_clock::now() + time;
    bool over = false;
    while (!over) {
      over = std::chrono::steady_clock::now() >= end;
      pollfd entry{.fd = listener.fd(), .events = POLLIN, .revents = 0};
      if (::poll(&entry, 1, 1) == 0) continue;
      listener.serve([this](Fd client, std::uint32_t port) {
        clients.push_back(std::move(client));
        ports.push_back(port);
      });
    }
  }
  Fd connect(std::string_view line = {}) {
    Fd client = connect_to(folder / "v");
    write_all(client, text(line));
    return client;
  }

  TemporaryFolder folder;
  VsockListener listener;
  std::vector<Fd> clients;
  std::vector<std::uint32_t> ports;
};

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

TEST_CASE("a line names the port, and what is behind it stays in the socket") {
  Bench bench;
  const Fd client = bench.connect("CONNECT 1024\nabc\n");
  bench.serve();
  REQUIRE(bench.ports == std::vector{1024u});
  CHECK(read_all(bench.clients[0], 4) == text("abc\n"));
  write_all(bench.clients[0], text("OK"));
  CHECK(read_all(client, 2) == text("OK"));
}

TEST_CASE("a line may come in pieces") {
  Bench bench;
  const Fd client = bench.connect();
  bench.serve();
  for (const std::string_view piece : {"CONN", "ECT", " 7", "7"}) {
    write_all(client, text(piece));
    bench.serve();
    CHECK(bench.ports.empty());
  }
  write_all(client, text("\nx"));
  bench.serve();
  REQUIRE(bench.ports == std::vector{77u});
  CHECK(read_all(bench.clients[0], 1) == text("x"));
}

TEST_CASE("only a line that is one connects, all others are closed without a word") {
  for (const std::string_view line :
       {"CONNECT 0\n", "CONNECT 4294967295\n", "CONNECT 0000000000000000000007\n"}) {
    Bench bench;
    const Fd client = bench.connect(line);
    bench.serve();
    CHECK(bench.ports.size() == 1);
  }
  for (const std::string_view line : {"\n", "CONNECT\n", "CONNECT \n", "CONNECT 4294967296\n", "CONNECT -1\n",
                                      "CONNECT 1 \n", "CONNECT  1\n", "CONNECT 1x\n", "CONNECT 0x10\n",
                                      "connect 1\n", "GET / HTTP/1.1\r\n", "CONNECT 1\r\n"}) {
    Bench bench;
    const Fd client = bench.connect(line);
    bench.serve();
    INFO(line);
    CHECK(bench.ports.empty());
    CHECK(ended(client));
  }
}

TEST_CASE("a line has at most 32 bytes with its end") {
  Bench bench;
  const std::string longest = "CONNECT " + std::string(21, '0') + "12\n";
  REQUIRE(longest.size() == 32);
  const Fd fits = bench.connect(longest);
  bench.serve();
  CHECK(bench.ports == std::vector{12u});
  const Fd over = bench.connect("CONNECT " + std::string(22, '0') + "12\n");
  bench.serve();
  CHECK(bench.ports.size() == 1);
  CHECK(ended(over));
  const Fd in_pieces = bench.connect(std::string(20, 'x'));
  bench.serve();
  write_all(in_pieces, text(std::string(12, 'x')));
  bench.serve();
  CHECK(ended(in_pieces));
}

TEST_CASE("a client that says nothing holds nobody up, and goes after its time") {
  Bench bench(50ms);
  const Fd silent = bench.connect();
  const Fd slow = bench.connect("CONN");
  bench.serve();
  const Fd other = bench.connect("CONNECT 5\n");
  bench.serve();
  CHECK(bench.ports == std::vector{5u});
  bench.serve(100ms);
  CHECK(ended(silent));
  CHECK(ended(slow));
  CHECK_FALSE(readable(other, 0ms));
}

TEST_CASE("a client that goes before its line is forgotten") {
  Bench bench;
  bench.connect("CONN");
  bench.connect();
  bench.serve();
  CHECK_FALSE(readable(bench.connect(), 0ms));
  bench.serve();
  CHECK(bench.ports.empty());
}

TEST_CASE("one silent client too many, and the one who has waited longest goes") {
  Bench bench;
  std::vector<Fd> silent;
  for (std::size_t i = 0; i < VsockListener::most_waiting; ++i) silent.push_back(bench.connect());
  bench.serve(20ms);
  CHECK_FALSE(readable(silent[0], 0ms));
  const Fd more = bench.connect();
  bench.serve(20ms);
  CHECK(ended(silent[0]));
  CHECK_FALSE(readable(silent[1], 0ms));
  write_all(silent[1], text("CONNECT 1\n"));
  write_all(more, text("CONNECT 2\n"));
  bench.serve(20ms);
  CHECK(bench.ports.size() == 2);
}

TEST_CASE("where the host has no more descriptors clients wait, and silent ones make room") {
  Bench bench;
  const Fd silent = bench.connect();
  bench.serve();
  const Fd first = bench.connect("CONNECT 1\n");
  const Fd second = bench.connect("CONNECT 2\n");
  rlimit before = {};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const Fd next = Fd::duplicate(first.get());
  const rlimit none{.rlim_cur = static_cast<rlim_t>(next.get()) + 1, .rlim_max = before.rlim_max};
  std::vector<Fd> all;  // every number below the limit is taken
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  for (int number = ::dup(first.get()); number >= 0; number = ::dup(first.get())) all.emplace_back(number);
  const auto begun = std::chrono::steady_clock::now();
  bench.serve(20ms);
  const auto served = bench.ports;
  pollfd entry{.fd = bench.listener.fd(), .events = POLLIN, .revents = 0};
  const int busy = ::poll(&entry, 1, 0);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(served == std::vector{1u});
  // It rests for 100 ms before it tries again.
  if (std::chrono::steady_clock::now() - begun < 100ms) CHECK(busy == 0);
  CHECK(ended(silent));
  bench.serve(200ms);
  bench.serve();
  CHECK(bench.ports == std::vector{1u, 2u});
}

TEST_CASE("the socket is removed at the end, but not what somebody else has put there") {
  const TemporaryFolder folder;
  const std::string path = folder / "v";
  {
    const VsockListener listener("vsock.socket", path, 1s);
    CHECK(exists(path));
  }
  CHECK_FALSE(exists(path));
  {
    const VsockListener listener("vsock.socket", path, 1s);
    REQUIRE(::unlink(path.c_str()) == 0);
    REQUIRE(Fd(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)));
  }
  CHECK(exists(path));
}

TEST_CASE("a path that cannot be taken is an error that says what to do") {
  const TemporaryFolder folder;
  const auto refusal = [](const std::string& path) {
    return config_error_of([&] { const VsockListener listener("vsock.socket", path, 1s); });
  };
  const VsockListener first("vsock.socket", folder / "v", 1s);
  CHECK(contains(refusal(folder / "v"),
                 "vsock.socket '" + (folder / "v") + "': there is something at this path"));
  CHECK(contains(refusal(folder / "v"), "remove what is there if no VM uses it any more"));
  CHECK(exists(folder / "v"));
  CHECK(contains(refusal(folder / "none/v"), "no socket can be made there: No such file"));
  CHECK(contains(refusal(""), "1 to 107 bytes"));
  const std::string base = folder / "";
  const VsockListener longest("vsock.socket", base + std::string(107 - base.size(), 'a'), 1s);
  CHECK(contains(refusal(base + std::string(108 - base.size(), 'a')), "1 to 107 bytes"));
}

TEST_CASE("a program with as many clients waiting as it wants is busy") {
  Bench bench;
  HostService service(bench.folder / "v_80", 0);
  const auto first = bench.listener.connect(80);
  CHECK(first.fd);
  CHECK_FALSE(first.busy);
  const auto second = bench.listener.connect(80);
  CHECK_FALSE(second.fd);
  CHECK(second.busy);
  service.accept();
  CHECK(bench.listener.connect(80).fd);
  CHECK_FALSE(bench.listener.connect(81).busy);
}

TEST_CASE("a port of the host is the program at its path") {
  Bench bench;
  CHECK_FALSE(bench.listener.connect(80).fd);
  HostService service(bench.folder / "v_80");
  const Fd ours = std::move(bench.listener.connect(80).fd);
  REQUIRE(ours);
  const Fd theirs = service.accept();
  write_all(ours, text("abc"));
  CHECK(read_all(theirs, 3) == text("abc"));
  CHECK_FALSE(bench.listener.connect(8).fd);
  const Fd file(::open((bench.folder / "v_81").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  CHECK_FALSE(bench.listener.connect(81).fd);
  const std::string base = bench.folder / "";
  const VsockListener long_path("vsock.socket", base + std::string(105 - base.size(), 'a'), 1s);
  HostService one_digit(base + std::string(105 - base.size(), 'a') + "_1");
  CHECK(long_path.connect(1).fd);
  CHECK_FALSE(long_path.connect(12).fd);
}

}  // namespace
}  // namespace hum::testing
