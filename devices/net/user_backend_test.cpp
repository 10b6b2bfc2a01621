// SPDX-License-Identifier: Apache-2.0
#include "devices/net/user_backend.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <string>

#include "devices/net/passt_testing.h"
#include "devices/virtio_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using State = FrameEndpoint::State;
using testing::comes_true;
using testing::config_error_of;
using testing::contains;
using testing::FakePasst;
using testing::KeptLog;

UserSettings settings_for(const FakePasst& fake) {
  UserSettings settings;
  settings.program = fake.path();
  return settings;
}

FrameEndpoint::Transfer send(UserBackend& backend) {
  std::array<std::byte, 72> frame{};
  const iovec part{frame.data(), frame.size()};
  return backend.endpoint(0).send({&part, 1});
}

// The number that the latest fake has left.
pid_t latest(const FakePasst& fake) {
  const std::string text = fake.file("number");
  return text.ends_with('\n') ? static_cast<pid_t>(std::stol(text)) : -1;
}

constexpr const char* with_number = "echo $$ > $folder/.n; mv $folder/.n $folder/number; ";

}  // namespace

TEST_CASE("passt forwards what is published and nothing else, and keeps the host's loopback to itself") {
  UserSettings settings;
  CHECK(passt_arguments(settings, {}) == std::vector<std::string>{"--no-map-gw", "--mtu", "65520",
                                                                  "--tcp-ports", "none", "--udp-ports",
                                                                  "none"});
  settings.mtu = 1500;
  settings.ports = parse_published_ports("", "8080:80+[::1]:2222:22+127.0.0.1:53:5353/udp");
  CHECK(passt_arguments(settings, {"192.0.2.53"}) ==
        std::vector<std::string>{"--no-map-gw", "--mtu", "1500", "--dns", "192.0.2.53", "--tcp-ports",
                                 "8080:80", "--tcp-ports", "::1/2222:22", "--udp-ports",
                                 "127.0.0.1/53:5353"});
}

TEST_CASE(
    "a network without root has one pair of queues, no offloads, and the MTU that passt tells the guest") {
  const FakePasst fake(FakePasst::well);
  const Log log;
  UserSettings settings = settings_for(fake);
  const auto mtu = GENERATE(as<std::optional<std::uint16_t>>(), std::nullopt, 1400);
  settings.mtu = mtu;
  UserBackend backend(settings, log);
  backend.settle();
  CHECK(backend.kind() == "user");
  CHECK(backend.pairs() == 1);
  CHECK(backend.offloads() == 0);
  CHECK(backend.mtu() == mtu.value_or(65520));
  CHECK(backend.link());
  CHECK(contains(fake.file("words"), "--mtu " + std::to_string(mtu.value_or(65520)) + " "));
}

TEST_CASE("frames wait for a passt that is about to serve") {
  const FakePasst fake(
      "sleep 0.2; echo $$; dd bs=64 count=1 <&3 of=$folder/frame 2>/dev/null; exec cat <&3 >/dev/null");
  const Log log;
  UserBackend backend(settings_for(fake), log);
  CHECK(backend.link());
  CHECK(send(backend).state == State::moved);
  backend.settle();
  CHECK(comes_true([&] { return fake.file("frame").size() == 64; }));
}

TEST_CASE("a passt that ends as it starts is an error with its own words, and is not started again") {
  const FakePasst fake("echo 'Failed to sandbox process, exiting' >&2; exit 1");
  const KeptLog log;
  UserBackend backend(settings_for(fake), log.log);
  const std::string error = config_error_of([&] { backend.settle(); });
  CHECK(contains(error, "net 'user': passt did not start: Failed to sandbox process, exiting"));
  CHECK(contains(error, "--net none"));
  CHECK_FALSE(backend.link());
  CHECK(send(backend).state == State::lost);
  CHECK_FALSE(contains(log.text(), "passt"));
  CHECK(fake.file("words").find('\n') == fake.file("words").size() - 1);
}

TEST_CASE("a passt that is killed is told of once and started again, the link is down meanwhile") {
  const FakePasst fake(std::string(with_number) + FakePasst::well);
  const KeptLog log;
  UserBackend backend(settings_for(fake), log.log);
  std::atomic<int> downs = 0;
  std::atomic<int> ups = 0;
  backend.on_link_change([&] { ++(backend.link() ? ups : downs); });
  backend.settle();
  CHECK(downs + ups == 0);
  const int fd = backend.endpoint(0).fd();

  const pid_t first = latest(fake);
  REQUIRE(first > 0);
  ::kill(first, SIGKILL);
  REQUIRE(comes_true([&] { return ups == 1; }));
  CHECK(downs == 1);
  CHECK(backend.link());
  CHECK(backend.endpoint(0).fd() == fd);
  CHECK(send(backend).state == State::moved);
  CHECK(contains(log.text(), "net: passt has ended (signal 9 ended it): it is started again\n"));

  const pid_t second = latest(fake);
  REQUIRE(second > 0);
  REQUIRE(second != first);
  ::kill(second, SIGKILL);
  REQUIRE(comes_true([&] { return downs == 2; }));
  CHECK_FALSE(backend.link());
  CHECK(send(backend).state == State::lost);
  CHECK(ups == 1);
  CHECK(contains(log.text(), "net: passt has ended once more (signal 9 ended it): the link stays down\n"));
  backend.on_link_change({});
}

TEST_CASE("a second passt that does not serve leaves the link down") {
  const FakePasst fake(std::string(with_number) + FakePasst::well);
  const KeptLog log;
  UserBackend backend(settings_for(fake), log.log);
  backend.settle();
  const std::string then = GENERATE("echo 'no luck' >&2; exit 1", "");
  if (then.empty()) {
    std::filesystem::permissions(fake.path(), std::filesystem::perms::owner_read);
  } else {
    fake.become(then);
  }
  const pid_t first = latest(fake);
  REQUIRE(first > 0);
  ::kill(first, SIGKILL);
  CHECK(comes_true([&] { return contains(log.text(), "the link stays down"); }));
  CHECK(contains(log.text(), then.empty() ? "cannot run" : "(no luck)"));
  CHECK_FALSE(backend.link());
}

TEST_CASE("a passt that sends what are no frames is replaced") {
  const FakePasst fake(std::string(with_number) +
                       "echo $$; printf 'xxxxxxxxxxxxxxxx' >&3; exec cat <&3 >/dev/null");
  const KeptLog log;
  UserBackend backend(settings_for(fake), log.log);
  backend.settle();
  fake.become(FakePasst::well);
  std::array<std::byte, 100> buffer{};
  const iovec part{buffer.data(), buffer.size()};
  CHECK(comes_true([&] {
    return backend.endpoint(0).receive({&part, 1}).state == State::wait &&
           contains(log.text(), "started again");
  }));
  CHECK(comes_true([&] { return backend.link() && send(backend).state == State::moved; }));
}

TEST_CASE("a published port that is taken is refused before passt is started") {
  const FakePasst fake(FakePasst::well);
  const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in place{};
  place.sin_family = AF_INET;
  place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof place;
  REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&place), size) == 0);
  REQUIRE(::listen(socket.get(), 1) == 0);
  REQUIRE(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&place), &size) == 0);
  UserSettings settings = settings_for(fake);
  settings.ports = {{"", ntohs(place.sin_port), 80, PublishedPort::Protocol::tcp}};
  const Log log;
  CHECK(contains(config_error_of([&] { const UserBackend backend(settings, log); }), "net.publish"));
  CHECK(fake.file("words").empty());
}

}  // namespace hum
