// SPDX-License-Identifier: Apache-2.0
// Guests that do not keep to the protocol.
#include <thread>

#include "devices/vsock/testing.h"

namespace hum::testing {
namespace {

using namespace std::chrono_literals;
using namespace vsock_wire;

constexpr VsockPorts ports{80, 5000};
constexpr VsockPorts other{80, 5001};

// A guest with two connections to a service of the host, of which the second must not suffer.
struct Bench : VsockGuest {
  Bench() : listener(service(ports.host)) {
    start();
    open(ports);
    host = listener.accept();
    open(other);
    good = listener.accept();
  }

  void expect_good() {
    REQUIRE(send_data(other, text("good")));
    CHECK(read_all(good, 4) == text("good"));
    write_all(good, text("well"));
    const VsockPacket packet = expect(op_rw);
    CHECK(packet.ports() == other);
    CHECK(packet.data == text("well"));
    CHECK(driver.events().resets == 0);
  }
  void expect_lost() {
    expect_reset(ports);
    CHECK(ended(host));
    CHECK(counted("reset") == 1);
    CHECK(silent());
    expect_good();
  }

  HostService listener;
  Fd host;
  Fd good;
};

TEST_CASE("a header that is too short is dropped") {
  Bench bench;
  const GuestAddress at = bench.driver.place(bytes_of(VsockGuest::header(op_rst, ports)));
  for (const std::uint32_t size : {1u, 43u}) {
    bench.driver.queue(1).add({{at, size}});
    bench.driver.kick(1);
    CHECK(bench.driver.wait_used(1)->written == 0);
  }
  bench.driver.queue(1).add({{at, 44, true}});  // for the device to write
  bench.driver.kick(1);
  CHECK(bench.driver.wait_used(1)->written == 0);
  CHECK(bench.silent());
  bench.expect_good();
  CHECK_FALSE(readable(bench.host, 0ms));
  bench.driver.queue(1).add({{at, 44}});
  bench.driver.kick(1);
  CHECK(bench.driver.wait_used(1));
  CHECK(ended(bench.host));
}

TEST_CASE("a header in many pieces is a header") {
  Bench bench;
  Header rw = VsockGuest::header(op_rw, ports);
  rw.len = 3;
  std::vector<std::byte> packet(bytes_of(rw).begin(), bytes_of(rw).end());
  for (const char each : {'a', 'b', 'c'}) packet.push_back(static_cast<std::byte>(each));
  const GuestAddress at = bench.driver.place(packet);
  std::vector<virtio::testing::Buffer> pieces;
  for (std::uint32_t i = 0; i < packet.size(); ++i) pieces.push_back({at + i, 1});
  bench.driver.queue(1).add(pieces);
  bench.driver.kick(1);
  REQUIRE(bench.driver.wait_used(1));
  CHECK(read_all(bench.host, 3) == text("abc"));
}

TEST_CASE("packets that are not between this guest and the host are dropped") {
  Bench bench;
  const auto wrong = [&](auto change) {
    Header rst = VsockGuest::header(op_rst, ports);
    change(rst);
    CHECK(bench.send(rst));
    rst.op = op_request;
    CHECK(bench.send(rst));
    CHECK(bench.silent());
  };
  wrong([](Header& header) { header.src_cid = 4; });
  wrong([](Header& header) { header.src_cid = 2; });
  wrong([](Header& header) { header.src_cid_high = 1; });
  wrong([](Header& header) { header.dst_cid = 1; });
  wrong([](Header& header) { header.dst_cid = 3; });
  wrong([](Header& header) { header.dst_cid_high = 1; });
  bench.expect_good();
  CHECK_FALSE(readable(bench.host, 0ms));
}

TEST_CASE("another type of socket is refused in its own type, and touches no stream") {
  Bench bench;
  for (const unsigned type : {0u, 2u, 3u, 0xffffu}) {
    for (const std::uint16_t op : {op_request, op_rw}) {
      Header header = VsockGuest::header(op, ports);
      header.type = static_cast<std::uint16_t>(type);
      CHECK(bench.send(header));
      const VsockPacket reset = bench.expect(op_rst);
      CHECK(reset.header.type == type);
      CHECK(reset.ports() == ports);
    }
    Header rst = VsockGuest::header(op_rst, ports);
    rst.type = static_cast<std::uint16_t>(type);
    CHECK(bench.send(rst));
    CHECK(bench.silent());
  }
  CHECK_FALSE(readable(bench.host, 0ms));
}

TEST_CASE("operations that do not exist or do not fit end the connection") {
  for (const unsigned op : {0u, 1u, 2u, 8u, 0xffffu}) {
    Bench bench;
    CHECK(bench.send(static_cast<std::uint16_t>(op), ports));
    bench.expect_lost();
  }
}

TEST_CASE("packets for a connection that does not exist are answered with a reset, but for a reset") {
  Bench bench;
  const VsockPorts nobody{80, 1};
  for (const unsigned op : {0u, 2u, 4u, 5u, 6u, 7u, 8u}) {
    CHECK(bench.send(static_cast<std::uint16_t>(op), nobody));
    bench.expect_reset(nobody);
  }
  CHECK(bench.send(op_rst, nobody));
  CHECK(bench.silent());
  bench.expect_good();
}

TEST_CASE("a payload longer than its request ends the connection") {
  const auto rw = [](std::uint32_t len) {
    Header header = VsockGuest::header(op_rw, ports);
    header.len = len;
    return header;
  };
  {
    Bench bench;
    CHECK(bench.send(rw(2), text("abc")));  // shorter is not
    CHECK(bench.send(rw(3), text("def")));
    CHECK(read_all(bench.host, 5) == text("abdef"));
    CHECK(bench.send(rw(4), text("ghi")));
    bench.expect_lost();
  }
  {
    Bench bench;
    CHECK(bench.send(rw(UINT32_MAX), text("abc")));
    bench.expect_lost();
  }
  Bench bench;
  Header request = VsockGuest::header(op_request, {80, 7});
  request.len = 1;
  CHECK(bench.send(request));
  bench.expect_reset({80, 7});
  CHECK_FALSE(bench.listener.has_client());
}

TEST_CASE("a guest that sends more than its credit loses that connection") {
  Bench bench;
  CHECK(bench.send_data(ports, pattern(VsockConnection::window + 1)));
  bench.expect_lost();
}

TEST_CASE("a guest that claims to have taken what it was not sent loses that connection") {
  Bench bench;
  Header update = VsockGuest::header(op_credit_update, ports);
  update.fwd_cnt = 1;
  CHECK(bench.send(update));
  bench.expect_lost();
}

TEST_CASE("data behind the guest's own end ends the connection") {
  Bench bench;
  CHECK(bench.send_shutdown(ports, shutdown_send));
  CHECK(bench.send_data(ports, text("x")));
  bench.expect_lost();
}

TEST_CASE("an answer to a request that was none is refused") {
  Bench bench;
  const Fd client = connect_to(bench.socket());
  write_all(client, text("CONNECT 7\n"));
  const VsockPorts asked = bench.expect(op_request).ports();
  CHECK(bench.send(op_response, {asked.host + 1, asked.guest}));
  bench.expect_reset({asked.host + 1, asked.guest});
  CHECK(bench.send_data(asked, text("x")));
  bench.expect_reset(asked);
  CHECK(ended(client));
}

TEST_CASE("a connection is lost once, whatever follows before the guest hears of it") {
  VsockGuest guest;
  HostService listener(guest.service(80));
  guest.start(1);
  REQUIRE(guest.send(op_request, ports));
  REQUIRE(guest.driver.wait_used(0));  // the only buffer, which is not given again
  const Fd host = listener.accept();
  REQUIRE(guest.send(op_response, ports));
  CHECK(ended(host));
  Header rw = VsockGuest::header(op_rw, ports);
  rw.len = 100;
  REQUIRE(guest.send(rw));
  REQUIRE(guest.send_data(ports, text("x")));
  REQUIRE(guest.send(op_request, ports));
  CHECK(guest.counted("reset") == 1);
  SECTION("it is told once") {
    guest.give(guest.driver.allocate(4096), 100);
    guest.driver.kick(0);
    guest.expect_reset(ports);
  }
  SECTION("it has ended the connection itself meanwhile") {
    REQUIRE(guest.send(op_rst, ports));
    guest.give(guest.driver.allocate(4096), 100);
    guest.driver.kick(0);
  }
  CHECK(guest.silent());
  CHECK(guest.counted("reset") == 1);
  guest.open(ports);
}

TEST_CASE("receive buffers without room for a byte of data come back empty") {
  VsockGuest guest;
  HostService listener(guest.service(80));
  guest.start(0);
  const GuestAddress at = guest.driver.allocate(4096);
  guest.driver.queue(0).add({{at, 64}});  // for the device to read
  for (const std::uint32_t size : {1u, 43u, 44u}) guest.give(at, size);
  guest.give(at, 45);
  guest.driver.kick(0);
  CHECK(guest.send(op_request, ports));
  for (int i = 0; i < 4; ++i) CHECK(guest.driver.wait_used(0)->written == 0);
  guest.expect(op_response);
  const Fd host = listener.accept();
  write_all(host, text("ab"));
  CHECK(guest.expect(op_rw).data == text("a"));
  CHECK(guest.driver.events().resets == 0);
}

TEST_CASE("a guest that gives no buffers is held up when too many answers are due, and loses none") {
  VsockGuest guest;
  guest.start(0);
  // What is held for the guest, and no more.
  for (std::uint32_t i = 0; i < 256; ++i) REQUIRE(guest.send(op_rw, {80, i}));
  CHECK_FALSE(guest.send(VsockGuest::header(op_rw, {80, 256}), {}, 30ms));
  for (int i = 0; i < 10; ++i) guest.give(guest.driver.allocate(4096), 4096);
  guest.driver.kick(0);
  CHECK(guest.driver.wait_used(1));
  for (std::uint32_t i = 0; i < 257; ++i) guest.expect_reset({80, i});
  CHECK(guest.silent());
}

TEST_CASE("requests without end take no memory, and the host's clients are served meanwhile") {
  Bench bench;
  for (int i = 0; i < 2000; ++i) {
    REQUIRE(bench.send(op_credit_request, ports));
    if (const auto packet = bench.next(0ms)) CHECK(packet->header.op == op_credit_update);
  }
  while (const auto packet = bench.next(20ms)) CHECK(packet->header.op == op_credit_update);
  bench.expect_good();
}

TEST_CASE("a broken ring stops the device until its reset, and the host's clients wait") {
  Bench bench;
  bench.driver.queue(1).set_available_index(1000);
  bench.driver.kick(1);
  REQUIRE(virtio::testing::wait_for(bench.driver.events().broken));
  const Fd client = connect_to(bench.socket());
  write_all(client, text("CONNECT 7\n"));
  CHECK_FALSE(readable(client, 20ms));
  bench.driver.reset();
  CHECK(ended(bench.host));
  bench.start();
  CHECK(bench.expect(op_request).ports().guest == 7);
  CHECK(bench.driver.events().resets == 1);
}

TEST_CASE("a broken receive ring is a broken ring, too") {
  VsockGuest guest;
  guest.start(0);
  guest.driver.queue(0).set_available_index(257);
  CHECK(guest.send(op_rw, ports));
  REQUIRE(virtio::testing::wait_for(guest.driver.events().broken));
}

TEST_CASE("a reset at any moment leaves a device that works") {
  VsockGuest guest;
  HostService listener(guest.service(80));
  for (int i = 0; i < 10; ++i) {
    guest.start(4);
    const Fd client = connect_to(guest.socket());
    write_all(client, text("CONNECT 7\nabc"));
    Header request = VsockGuest::header(op_request, ports);
    guest.queue_up(request);
    guest.driver.kick(1);
    std::this_thread::sleep_for(std::chrono::microseconds(50 * i));
    guest.driver.reset();
  }
  guest.start();
  guest.open({80, 1});
}

}  // namespace
}  // namespace hum::testing
