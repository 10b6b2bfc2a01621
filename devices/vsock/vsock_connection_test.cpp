// SPDX-License-Identifier: Apache-2.0
#include "devices/vsock/vsock_connection.h"

#include <utility>

#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace vsock_wire;
using Event = VsockConnection::Event;

constexpr std::uint32_t window = VsockConnection::window;
constexpr VsockPorts ports{1000, 2000};

Header packet(std::uint16_t op, std::uint32_t len = 0) {
  Header header{};
  header.type = type_stream;
  header.op = op;
  header.len = len;
  header.buf_alloc = 1000;
  return header;
}

Header shutdown(std::uint32_t flags) {
  Header header = packet(op_shutdown);
  header.flags = flags;
  return header;
}

Header credit(std::uint32_t buf_alloc, std::uint32_t fwd_cnt) {
  Header header = packet(op_credit_update);
  header.buf_alloc = buf_alloc;
  header.fwd_cnt = fwd_cnt;
  return header;
}

// The guest has asked, and got its answer.
VsockConnection open_connection() {
  VsockConnection connection(ports, packet(op_request));
  REQUIRE(connection.next_control()->op == op_response);
  REQUIRE_FALSE(connection.control_due());
  return connection;
}

TEST_CASE("a request of the guest is answered with the room there is") {
  VsockConnection connection(ports, packet(op_request));
  CHECK(connection.open());
  const auto response = connection.next_control();
  REQUIRE(response);
  CHECK(response->op == op_response);
  CHECK(response->type == type_stream);
  CHECK(response->src_port == 1000);
  CHECK(response->dst_port == 2000);
  CHECK(response->buf_alloc == window);
  CHECK(response->fwd_cnt == 0);
  CHECK(response->len == 0);
  CHECK_FALSE(connection.next_control());
  CHECK(connection.credit() == 1000);
}

TEST_CASE("a request of the host is open when the guest has accepted it") {
  VsockConnection connection(ports);
  CHECK_FALSE(connection.open());
  CHECK_FALSE(connection.wants_data());
  CHECK(connection.next_control()->op == op_request);
  CHECK(connection.take(packet(op_response)) == Event::accepted);
  CHECK(connection.open());
  CHECK(connection.wants_data());
  CHECK(connection.credit() == 1000);
}

TEST_CASE("anything but an answer to a request of the host ends it") {
  for (const std::uint16_t op : {op_request, op_rw, op_shutdown, op_credit_update, op_credit_request}) {
    VsockConnection connection(ports);
    connection.next_control();
    CHECK(connection.take(packet(op)) == Event::broken);
    CHECK_FALSE(connection.was_opened());
    CHECK(connection.next_control()->op == op_rst);
    CHECK(connection.finished());
  }
  VsockConnection refused(ports);
  refused.next_control();
  CHECK(refused.take(packet(op_rst)) == Event::ended);
  CHECK(refused.finished());
}

TEST_CASE("a guest that answers before it was asked hears nothing") {
  VsockConnection connection(ports);
  CHECK(connection.take(packet(op_response)) == Event::broken);
  CHECK(connection.finished());
}

TEST_CASE("a request that is given up before the guest knew of it leaves no trace") {
  VsockConnection unknown(ports);
  unknown.reset();
  CHECK(unknown.finished());
  VsockConnection known(ports);
  known.next_control();
  known.reset();
  CHECK_FALSE(known.finished());
  CHECK(known.next_control()->op == op_rst);
  CHECK(known.finished());
}

TEST_CASE("the guest may send what it was told there is room for, and no byte more") {
  VsockConnection exact = open_connection();
  CHECK(exact.take(packet(op_rw, window - 1)) == Event::data);
  CHECK(exact.take(packet(op_rw, 1)) == Event::data);
  CHECK(exact.take(packet(op_rw, 0)) == Event::data);
  CHECK(exact.take(packet(op_rw, 1)) == Event::broken);
  CHECK(exact.next_control()->op == op_rst);
  VsockConnection over = open_connection();
  CHECK(over.take(packet(op_rw, window + 1)) == Event::broken);
  VsockConnection far = open_connection();
  CHECK(far.take(packet(op_rw, UINT32_MAX)) == Event::broken);
}

TEST_CASE("room the guest was not told of is no credit") {
  VsockConnection connection = open_connection();
  CHECK(connection.take(packet(op_rw, window)) == Event::data);
  connection.forwarded(100);
  CHECK_FALSE(connection.control_due());
  SECTION("not told") {
    CHECK(connection.take(packet(op_rw, 1)) == Event::broken);
  }
  SECTION("told with data") {
    CHECK(connection.data(1).fwd_cnt == 100);
    CHECK(connection.take(packet(op_rw, 100)) == Event::data);
    CHECK(connection.take(packet(op_rw, 1)) == Event::broken);
  }
}

TEST_CASE("a guest that sends before it has its answer has no credit") {
  VsockConnection connection(ports, packet(op_request));
  CHECK(connection.take(packet(op_rw, 1)) == Event::broken);
}

TEST_CASE("the guest is told of room when a quarter has gathered, or when it asks") {
  VsockConnection connection = open_connection();
  CHECK(connection.take(packet(op_rw, window)) == Event::data);
  connection.forwarded(window / 4 - 1);
  CHECK_FALSE(connection.control_due());
  connection.forwarded(1);
  const auto update = connection.next_control();
  REQUIRE(update);
  CHECK(update->op == op_credit_update);
  CHECK(update->fwd_cnt == window / 4);
  CHECK_FALSE(connection.control_due());
  CHECK(connection.take(packet(op_credit_request)) == Event::none);
  CHECK(connection.take(packet(op_credit_request)) == Event::none);
  CHECK(connection.next_control()->op == op_credit_update);
  CHECK_FALSE(connection.control_due());
}

TEST_CASE("any packet spares the update") {
  VsockConnection connection = open_connection();
  CHECK(connection.take(packet(op_rw, window)) == Event::data);
  connection.forwarded(window);
  CHECK(connection.control_due());
  CHECK(connection.data(1).fwd_cnt == window);
  CHECK_FALSE(connection.control_due());
}

TEST_CASE("what is sent to the guest uses its credit up to the last byte") {
  VsockConnection connection = open_connection();
  const Header header = connection.data(999);
  CHECK(header.op == op_rw);
  CHECK(header.len == 999);
  CHECK(connection.credit() == 1);
  connection.data(1);
  CHECK(connection.credit() == 0);
  CHECK(connection.take(credit(1000, 1)) == Event::none);
  CHECK(connection.credit() == 1);
  CHECK(connection.take(credit(3000, 1000)) == Event::none);
  CHECK(connection.credit() == 3000);
}

TEST_CASE("a window that the guest makes smaller than what is under way gives no credit") {
  VsockConnection connection = open_connection();
  connection.data(1000);
  for (const std::uint32_t buf_alloc : {1000u, 999u, 1u, 0u}) {
    CHECK(connection.take(credit(buf_alloc, 0)) == Event::none);
    CHECK(connection.credit() == 0);
  }
  CHECK(connection.take(credit(1001, 0)) == Event::none);
  CHECK(connection.credit() == 1);
}

TEST_CASE("a guest that has taken more than it was sent is out of its mind") {
  VsockConnection connection = open_connection();
  connection.data(1000);
  CHECK(connection.take(credit(1000, 1000)) == Event::none);
  CHECK(connection.take(credit(1000, 1001)) == Event::broken);
}

TEST_CASE("an old count of the guest takes no credit back") {
  VsockConnection connection = open_connection();
  connection.data(1000);
  CHECK(connection.take(credit(1000, 600)) == Event::none);
  CHECK(connection.take(credit(1000, 599)) == Event::none);
  CHECK(connection.credit() == 600);
}

TEST_CASE("the counters of both directions go round") {
  VsockConnection connection = open_connection();
  constexpr std::uint32_t step = 1u << 30;
  std::uint32_t taken = 0;
  CHECK(connection.take(credit(UINT32_MAX, taken)) == Event::none);
  for (int i = 0; i < 9; ++i) {
    REQUIRE(connection.credit() == step);  // however large the guest says its window is
    connection.data(step);
    REQUIRE(connection.credit() == 0);
    taken += step;
    REQUIRE(connection.take(credit(UINT32_MAX, taken)) == Event::none);
  }
  Header header = packet(op_rw, window);
  header.fwd_cnt = taken;
  for (std::uint64_t done = 0; done < (1ull << 32) + 2 * window; done += window) {
    if (connection.take(header) != Event::data) FAIL("broken after " << done);
    connection.forwarded(window);
    if (connection.next_control()->op != op_credit_update) FAIL("no update after " << done);
  }
  header.len = window + 1;
  CHECK(connection.take(header) == Event::broken);
}

TEST_CASE("the guest is asked for credit once, until it has given some") {
  VsockConnection connection = open_connection();
  connection.data(1000);
  connection.ask_for_credit();
  connection.ask_for_credit();
  CHECK(connection.next_control()->op == op_credit_request);
  CHECK(connection.take(credit(1000, 0)) == Event::none);
  connection.ask_for_credit();
  CHECK_FALSE(connection.control_due());
  CHECK(connection.take(credit(1000, 1)) == Event::none);
  connection.data(1);
  connection.ask_for_credit();
  CHECK(connection.next_control()->op == op_credit_request);
}

TEST_CASE("each direction ends by itself, and for good") {
  VsockConnection connection = open_connection();
  CHECK(connection.take(shutdown(0xfffffff0)) == Event::none);
  CHECK(connection.guest_done() == 0);
  CHECK(connection.take(shutdown(shutdown_receive)) == Event::none);
  CHECK_FALSE(connection.wants_data());
  CHECK(connection.take(packet(op_rw, 1)) == Event::data);
  CHECK(connection.take(shutdown(0)) == Event::none);
  CHECK(connection.guest_done() == shutdown_receive);
  CHECK(connection.take(shutdown(shutdown_send)) == Event::none);
  CHECK(connection.guest_done() == shutdown_both);
  CHECK(connection.take(packet(op_rw, 0)) == Event::broken);
}

TEST_CASE("what the host does no more is told once, with what was told before") {
  VsockConnection connection = open_connection();
  connection.host_does_no_more(0);
  CHECK_FALSE(connection.control_due());
  connection.host_does_no_more(shutdown_send);
  CHECK_FALSE(connection.wants_data());
  CHECK(connection.next_control()->flags == shutdown_send);
  connection.host_does_no_more(shutdown_send);
  CHECK_FALSE(connection.control_due());
  connection.host_does_no_more(shutdown_receive);
  CHECK(connection.next_control()->flags == shutdown_both);
}

TEST_CASE("the guest gets its answer before it hears of an end") {
  VsockConnection connection(ports, packet(op_request));
  connection.host_does_no_more(shutdown_both);
  CHECK(connection.next_control()->op == op_response);
  CHECK(connection.next_control()->op == op_shutdown);
}

TEST_CASE("a reset takes the place of all that was due, and what comes meanwhile is ignored") {
  VsockConnection connection(ports, packet(op_request));
  connection.host_does_no_more(shutdown_send);
  connection.reset();
  connection.reset();
  for (const std::uint16_t op : {op_request, op_response, op_rw, op_credit_request})
    CHECK(connection.take(packet(op)) == Event::none);
  connection.forwarded(window);
  connection.host_does_no_more(shutdown_both);
  CHECK(connection.next_control()->op == op_rst);
  CHECK_FALSE(connection.control_due());
  CHECK(connection.finished());
}

TEST_CASE("a guest that resets what was being reset hears nothing more") {
  VsockConnection connection = open_connection();
  connection.reset();
  CHECK(connection.take(packet(op_rst)) == Event::none);
  CHECK(connection.finished());
}

TEST_CASE("a reset of the guest ends a connection without an answer") {
  VsockConnection connection = open_connection();
  connection.host_does_no_more(shutdown_send);
  CHECK(connection.take(packet(op_rst)) == Event::ended);
  CHECK(connection.finished());
  CHECK(connection.was_opened());
}

TEST_CASE("operations that an open connection has no use for end it") {
  for (const unsigned op : {0u, 1u, 2u, 8u, 9u, 0xffffu}) {
    VsockConnection connection = open_connection();
    CHECK(connection.take(packet(static_cast<std::uint16_t>(op))) == Event::broken);
    CHECK(connection.next_control()->op == op_rst);
  }
}

}  // namespace
}  // namespace hum
