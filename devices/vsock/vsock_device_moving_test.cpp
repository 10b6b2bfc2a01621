// SPDX-License-Identifier: Apache-2.0
// Connections over a pause, a reset and a move to another machine.
#include <map>

#include "devices/vsock/testing.h"
#include "vmm/base/state.h"

namespace hum::testing {
namespace {

using namespace std::chrono_literals;
using namespace vsock_wire;

constexpr VsockPorts ports = Connected::own_ports;

TEST_CASE("a pause keeps the connections and what is under way on them") {
  Connected guest;
  auto accepted = guest.accept(7);
  guest.driver.pause();
  write_all(guest.host, text("during"));
  write_all(accepted.client, text("the pause"));
  const Fd late = connect_to(guest.socket());
  write_all(late, text("CONNECT 9\n"));
  guest.driver.resume();
  std::map<std::uint32_t, std::vector<std::byte>> seen;
  for (int i = 0; i < 3; ++i) {
    const auto packet = guest.next();
    REQUIRE(packet);
    seen[packet->header.dst_port] = packet->data;
  }
  CHECK(seen[ports.guest] == text("during"));
  CHECK(seen[7] == text("the pause"));
  CHECK(seen.contains(9));
  REQUIRE(guest.send_data(ports, text("after")));
  CHECK(read_all(guest.host, 5) == text("after"));
}

TEST_CASE("a reset ends all connections, and the next driver starts anew") {
  Connected guest;
  auto accepted = guest.accept(7);
  const Fd waiting = connect_to(guest.socket());
  write_all(waiting, text("CONNECT 9\n"));
  guest.expect(op_request);
  guest.driver.reset();
  CHECK(ended(guest.host));
  CHECK(ended(accepted.client));
  CHECK(ended(waiting));
  guest.start();
  REQUIRE(guest.send_data(ports, text("old")));
  guest.expect_reset(ports);
  guest.open(ports);
  CHECK_FALSE(guest.driver.wait_used(2, 0ms));
}

TEST_CASE("a guest that goes on in another machine is told that its connections are gone") {
  Connected source;
  source.driver.pause();
  const auto state = state_of(source.device);
  VsockGuest guest;
  restore(guest.device, state);
  CHECK(state_of(guest.device) == state);
  guest.start();
  CHECK_FALSE(guest.driver.wait_used(2, 0ms));
  const GuestAddress at = guest.driver.allocate(64);
  guest.machine.memory.write(at, le32(77));
  guest.driver.queue(2).add({{at + 32, 3, true}});
  guest.driver.queue(2).add({{at, 8, true}});
  guest.driver.kick(2);
  CHECK(guest.driver.wait_used(2)->written == 0);
  CHECK(guest.driver.wait_used(2)->written == 4);
  CHECK(guest.machine.memory.read<le32>(at) == event_transport_reset);
  guest.driver.queue(2).add({{at, 8, true}});
  guest.driver.kick(2);
  CHECK_FALSE(guest.driver.wait_used(2, 20ms));
  REQUIRE(guest.send_data(ports, text("old")));
  guest.expect_reset(ports);
}

TEST_CASE("a driver that starts anew in the other machine is told nothing") {
  Connected source;
  source.driver.pause();
  VsockGuest guest;
  restore(guest.device, state_of(source.device));
  guest.driver.reset();
  guest.start();
  guest.driver.queue(2).add({{guest.driver.allocate(64), 8, true}});
  guest.driver.kick(2);
  CHECK_FALSE(guest.driver.wait_used(2, 20ms));
}

TEST_CASE("the state of a guest with another CID is refused") {
  VsockGuest source;
  VsockGuest other({.cid = 4});
  CHECK_THROWS_AS(restore(other.device, state_of(source.device)), ConfigError);
}

}  // namespace
}  // namespace hum::testing
