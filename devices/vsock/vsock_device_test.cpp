// SPDX-License-Identifier: Apache-2.0
#include "devices/vsock/vsock_device.h"

#include <algorithm>
#include <thread>

#include "devices/vsock/testing.h"

namespace hum::testing {
namespace {

using namespace std::chrono_literals;
using namespace vsock_wire;

constexpr VsockPorts ports = Connected::own_ports;

Header credit(VsockPorts of, std::uint32_t forwarded, std::uint32_t buf_alloc = guest_window) {
  Header update = VsockGuest::header(op_credit_update, of);
  update.fwd_cnt = forwarded;
  update.buf_alloc = buf_alloc;
  return update;
}

TEST_CASE("the socket device tells the guest its CID") {
  VsockGuest guest;
  CHECK(guest.device.type() == 19);
  CHECK(guest.device.features() == 1);
  CHECK(guest.device.queue_sizes().size() == 3);
  std::array<std::byte, 12> space;
  space.fill(std::byte{0xff});
  guest.device.read_config(0, space);
  CHECK(load_le(std::span(space).first(8)) == 3);
  CHECK(load_le(std::span(space).last(4)) == 0);
}

TEST_CASE("a client of the host reaches a port of the guest, and bytes go both ways") {
  VsockGuest guest;
  guest.start();
  const Fd client = connect_to(guest.socket());
  write_all(client, text("CONNECT 1024\nhello"));
  const VsockPacket request = guest.expect(op_request);
  CHECK(request.header.dst_port == 1024);
  CHECK(request.header.type == type_stream);
  CHECK(request.header.buf_alloc == VsockConnection::window);
  CHECK_FALSE(readable(client, 20ms));  // nobody has accepted yet
  REQUIRE(guest.send(op_response, request.ports()));
  const auto answer = text("OK " + std::to_string(request.header.src_port) + "\n");
  CHECK(read_all(client, answer.size()) == answer);
  CHECK(guest.expect(op_rw).data == text("hello"));
  REQUIRE(guest.send_data(request.ports(), text("to the host")));
  CHECK(read_all(client, 11) == text("to the host"));
  CHECK(guest.counted("opened") == 1);
  CHECK(guest.counted("bytes_to_guest") == 5);
  CHECK(guest.counted("bytes_from_guest") == 11);
}

TEST_CASE("a client is closed without a word where the guest refuses") {
  VsockGuest guest;
  guest.start();
  const Fd client = connect_to(guest.socket());
  write_all(client, text("CONNECT 1024\n"));
  const VsockPorts asked = guest.expect(op_request).ports();
  REQUIRE(guest.send(op_rst, asked));
  CHECK(ended(client));
  CHECK(guest.counted("refused") == 1);
  CHECK(guest.counted("opened") == 0);
  CHECK(guest.silent());
}

TEST_CASE("a guest that does not answer a request is told that it came to nothing") {
  VsockGuest guest({.answer_patience = 50ms});
  guest.start();
  const Fd client = connect_to(guest.socket());
  write_all(client, text("CONNECT 1024\n"));
  const VsockPorts asked = guest.expect(op_request).ports();
  CHECK(ended(client));
  guest.expect_reset(asked);
  REQUIRE(guest.send(op_response, asked));
  guest.expect_reset(asked);
  CHECK(guest.counted("refused") == 1);
}

TEST_CASE("what the guest opens reaches the program of that port") {
  Connected guest;
  REQUIRE(guest.send_data(ports, text("to the host")));
  CHECK(read_all(guest.host, 11) == text("to the host"));
  write_all(guest.host, text("to the guest"));
  const VsockPacket packet = guest.expect(op_rw);
  CHECK(packet.data == text("to the guest"));
  CHECK(packet.ports() == ports);
  CHECK(packet.header.fwd_cnt == 11);
  CHECK(guest.counted("opened") == 1);
}

TEST_CASE("where nobody listens the guest is refused") {
  VsockGuest guest;
  guest.start();
  REQUIRE(guest.send(op_request, ports));
  guest.expect_reset(ports);
  CHECK(guest.counted("refused") == 1);
  HostService listener(guest.service(ports.host));
  guest.open(ports);
}

TEST_CASE("there are as many connections as the process's files leave room for, and no more than usual") {
  for (const auto& [files, connections] : {std::pair<std::uint64_t, std::size_t>{UINT64_MAX, 1024},
                                           {1280, 1024},
                                           {1279, 1023},
                                           {1024, 768},
                                           {512, 256},
                                           {511, 256},
                                           {510, 255},
                                           {64, 32},
                                           {1, 1},
                                           {0, 0}})
    CHECK(VsockDevice::connections_within(files) == connections);
}

TEST_CASE("a guest waits for a program that accepts slowly") {
  VsockGuest guest({.most_connections = 4});
  guest.start();
  HostService listener(guest.service(80), 0);
  guest.open({80, 1});
  for (std::uint32_t i = 2; i <= 4; ++i) REQUIRE(guest.send(op_request, {80, i}));
  CHECK(guest.silent());
  REQUIRE(guest.send(op_request, {80, 5}));  // who waits has a place, too
  guest.expect_reset({80, 5});
  const Fd first = listener.accept();
  CHECK(guest.expect(op_response).ports() == VsockPorts{80, 2});

  SECTION("each in its turn") {
    const Fd second = listener.accept();
    CHECK(guest.expect(op_response).ports() == VsockPorts{80, 3});
    const Fd third = listener.accept();
    CHECK(guest.expect(op_response).ports() == VsockPorts{80, 4});
    CHECK(guest.counted("opened") == 4);
  }
  SECTION("taken back by the guest, or asked for twice") {
    REQUIRE(guest.send(op_rst, {80, 3}));
    REQUIRE(guest.send(op_request, {80, 4}));
    guest.expect_reset({80, 4});
    const Fd second = listener.accept();
    CHECK(guest.silent());
    CHECK(guest.counted("refused") == 3);
    CHECK_FALSE(listener.has_client());
  }
  SECTION("kept over a pause, forgotten by a reset") {
    guest.driver.pause();
    guest.driver.resume();
    const Fd second = listener.accept();
    CHECK(guest.expect(op_response).ports() == VsockPorts{80, 3});
    guest.driver.reset();
    guest.start();
    const Fd third = listener.accept();
    CHECK(guest.silent());
    CHECK_FALSE(listener.has_client());
  }
}

TEST_CASE("a guest that has waited too long for a program is refused") {
  VsockGuest guest({.answer_patience = 50ms});
  guest.start();
  HostService listener(guest.service(80), 0);
  guest.open({80, 1});
  REQUIRE(guest.send(op_request, {80, 2}));
  guest.expect_reset({80, 2});
  CHECK(guest.counted("refused") == 1);
}

TEST_CASE("clients that come before the guest's driver wait for it") {
  VsockGuest guest;
  const Fd client = connect_to(guest.socket());
  write_all(client, text("CONNECT 7\n"));
  guest.start();
  CHECK(guest.expect(op_request).ports().guest == 7);
}

TEST_CASE("two connections from one port of the guest are two") {
  Connected guest;
  const VsockPorts second{81, ports.guest};
  HostService other(guest.service(81));
  guest.open(second);
  const Fd host = other.accept();
  REQUIRE(guest.send_data(second, text("b")));
  REQUIRE(guest.send_data(ports, text("a")));
  CHECK(read_all(host, 1) == text("b"));
  CHECK(read_all(guest.host, 1) == text("a"));
}

TEST_CASE("a half that the host closes is told behind its last byte, and the other half stays") {
  Connected guest;
  write_all(guest.host, text("last"));
  REQUIRE(::shutdown(guest.host.get(), SHUT_WR) == 0);
  CHECK(guest.expect(op_rw).data == text("last"));
  CHECK(guest.expect(op_shutdown).header.flags == shutdown_send);
  REQUIRE(guest.send_data(ports, text("answer")));
  CHECK(read_all(guest.host, 6) == text("answer"));
  guest.host.reset();
  CHECK(guest.expect(op_shutdown).header.flags == shutdown_both);
  REQUIRE(guest.send(op_rst, ports));
  CHECK(guest.silent());
  CHECK(guest.counted("reset") == 0);
}

TEST_CASE("a half that the guest closes is told behind its last byte, and the other half stays") {
  Connected guest;
  REQUIRE(guest.send_data(ports, text("last")));
  REQUIRE(guest.send_shutdown(ports, shutdown_send));
  CHECK(read_all(guest.host, 5) == text("last"));
  write_all(guest.host, text("answer"));
  CHECK(guest.expect(op_rw).data == text("answer"));
  REQUIRE(guest.send_shutdown(ports, shutdown_both));
  guest.expect_reset(ports);
  CHECK(::send(guest.host.get(), "x", 1, MSG_NOSIGNAL) == -1);
  CHECK(guest.counted("reset") == 0);
}

TEST_CASE("a guest that receives no more is sent nothing, and the host's program learns of it") {
  Connected guest;
  REQUIRE(guest.send_shutdown(ports, shutdown_receive));
  CHECK(guest.expect(op_shutdown).header.flags == shutdown_send);
  CHECK(::send(guest.host.get(), "x", 1, MSG_NOSIGNAL) == -1);
  REQUIRE(guest.send_data(ports, text("still")));
  CHECK(read_all(guest.host, 5) == text("still"));
}

TEST_CASE("a program of the host that ends is told to the guest, which is reset if it does not answer") {
  Connected guest({.close_patience = 50ms});
  write_all(guest.host, text("bye"));
  guest.host.reset();
  CHECK(guest.expect(op_rw).data == text("bye"));
  const VsockPacket shutdown = guest.expect(op_shutdown);
  CHECK(shutdown.header.flags == shutdown_both);
  guest.expect_reset(ports);
  CHECK(guest.silent());
  CHECK(guest.counted("reset") == 0);
}

TEST_CASE("a program of the host that reads no more is told to the guest") {
  Connected guest;
  REQUIRE(::shutdown(guest.host.get(), SHUT_RD) == 0);
  REQUIRE(guest.send_data(ports, text("nobody")));
  CHECK(guest.expect(op_shutdown).header.flags == shutdown_receive);
  write_all(guest.host, text("still"));
  CHECK(guest.expect(op_rw).data == text("still"));
}

TEST_CASE("a reset of the guest ends the host's end, which still reads what was sent") {
  Connected guest;
  REQUIRE(guest.send_data(ports, text("abc")));
  REQUIRE(guest.send(op_rst, ports));
  CHECK(read_all(guest.host, 4) == text("abc"));
  CHECK(guest.counted("reset") == 1);
  guest.open(ports);  // the same ports may be used again
}

TEST_CASE("the host is read no further than the guest has given credit") {
  Connected guest;
  const auto sent = pattern(guest_window + 1);
  std::thread writer([&] { write_all(guest.host, sent); });
  std::vector<std::byte> seen;
  while (seen.size() < guest_window) {
    const VsockPacket packet = guest.expect(op_rw);
    seen.insert(seen.end(), packet.data.begin(), packet.data.end());
  }
  CHECK(seen.size() == guest_window);
  guest.expect(op_credit_request);
  CHECK(guest.silent());
  writer.join();
  CHECK(guest.counted("bytes_to_guest") == guest_window);
  REQUIRE(guest.send(credit(ports, 0)));  // none, and it is not asked for again
  CHECK(guest.silent());
  REQUIRE(guest.send(credit(ports, 1)));
  const VsockPacket last = guest.expect(op_rw);
  CHECK(last.data.size() == 1);
  seen.insert(seen.end(), last.data.begin(), last.data.end());
  CHECK((seen == sent));
  guest.expect(op_credit_request);
  CHECK(guest.silent());
}

TEST_CASE("what the guest has no buffer for stays in the socket") {
  VsockGuest guest;
  HostService listener(guest.service(ports.host));
  guest.start(1);
  guest.open(ports);
  const Fd host = listener.accept();
  // Takes the buffer, which the test then keeps.
  write_all(host, text("a"));
  REQUIRE(guest.driver.wait_used(0));
  write_all(host, text("bcd"));
  std::this_thread::sleep_for(30ms);
  CHECK(guest.counted("bytes_to_guest") == 1);
  CHECK(guest.device.report().size() == 5);
  guest.give(guest.driver.allocate(4096), 100);
  guest.driver.kick(0);
  CHECK(guest.expect(op_rw).data == text("bcd"));
}

TEST_CASE("a program of the host that does not read uses up the guest's credit, and reading gives it back") {
  Connected guest;
  std::uint32_t granted = VsockConnection::window;
  const auto piece = pattern(16 * 1024);
  std::vector<std::byte> sent;
  const auto send_piece = [&] {
    REQUIRE(guest.send_data(ports, piece));
    sent.insert(sent.end(), piece.begin(), piece.end());
  };
  const auto learn = [&](std::chrono::milliseconds timeout) {
    while (const auto packet = guest.next(timeout)) {
      CHECK(packet->header.op == op_credit_update);
      granted = packet->header.fwd_cnt + packet->header.buf_alloc;
    }
  };
  // Until the socket and then the device are full.
  while (true) {
    while (sent.size() + piece.size() <= granted) send_piece();
    learn(50ms);
    if (sent.size() + piece.size() > granted) break;
  }
  // To the last byte of it.
  const auto rest = std::span(piece).first(granted - sent.size());
  REQUIRE(guest.send_data(ports, rest));
  sent.insert(sent.end(), rest.begin(), rest.end());
  CHECK(guest.silent());

  SECTION("the host reads") {
    CHECK((read_all(guest.host, sent.size()) == sent));
    learn(30ms);
    CHECK(granted - sent.size() > VsockConnection::window * 3 / 4);
    REQUIRE(guest.send_data(ports, text("more")));
    CHECK(read_all(guest.host, 4) == text("more"));
  }
  SECTION("one byte more ends the connection") {
    REQUIRE(guest.send_data(ports, text("x")));
    guest.expect_reset(ports);
    CHECK(guest.counted("reset") == 1);
  }
  SECTION("a guest that closes leaves nothing undelivered") {
    REQUIRE(guest.send_shutdown(ports, shutdown_both));
    guest.expect(op_shutdown);  // the host's bytes are not wanted any more
    CHECK(guest.silent());      // the reset comes when all is delivered
    CHECK((read_all(guest.host, sent.size() + 1) == sent));
    guest.expect_reset(ports);
  }
  SECTION("a guest that closes and does not wait for it leaves nothing undelivered") {
    REQUIRE(guest.send_shutdown(ports, shutdown_send));
    REQUIRE(guest.send(op_rst, ports));
    REQUIRE(guest.send(op_credit_request, ports));
    guest.expect_reset(ports);  // there is no such connection any more
    CHECK((read_all(guest.host, sent.size() + 1) == sent));
  }
  SECTION("a guest that resets loses what the host has not taken") {
    REQUIRE(guest.send(op_rst, ports));
    const auto seen = read_all(guest.host, sent.size() + 1);
    CHECK(seen.size() < sent.size());
    CHECK(std::equal(seen.begin(), seen.end(), sent.begin()));
  }
  SECTION("a program that ends makes room") {
    guest.host.reset();
    bool told = false;
    while (const auto packet = guest.next(30ms)) told |= packet->header.op == op_shutdown;
    CHECK(told);
    REQUIRE(guest.send_data(ports, std::span(piece).first(1)));
    REQUIRE(guest.send(op_rst, ports));
  }
  SECTION("a flush waits for the reader") {
    const EventFd give_up;
    std::vector<std::byte> seen;
    std::thread reader([&] {
      std::this_thread::sleep_for(50ms);
      seen = read_all(guest.host, sent.size());
    });
    guest.device.flush(give_up.fd());
    guest.driver.reset();
    reader.join();
    CHECK((seen == sent));
  }
  SECTION("a flush is given up") {
    const EventFd give_up;
    give_up.signal();
    guest.device.flush(give_up.fd());
  }
  SECTION("a reset does not wait") {
    guest.driver.reset();
    CHECK(read_all(guest.host, sent.size() + 1).size() < sent.size());
  }
}

TEST_CASE("a flush passes on what was queued without a kick") {
  Connected guest;
  Header rw = VsockGuest::header(op_rw, ports);
  rw.len = 10;
  guest.queue_up(rw, text("last words"));
  const EventFd give_up;
  guest.device.flush(give_up.fd());
  CHECK(unread(guest.host) == 10);
}

TEST_CASE("connections take turns, one packet each") {
  Connected guest;
  const VsockPorts second{80, 5001};
  guest.open(second);
  const Fd other = guest.listener.accept();
  // No buffers while both get a lot to send.
  guest.driver.pause();
  write_all(guest.host, pattern(60'000));
  write_all(other, pattern(60'000));
  guest.driver.resume();
  std::vector<std::uint32_t> order;
  for (int i = 0; i < 20; ++i) order.push_back(guest.expect(op_rw).header.dst_port);
  for (std::size_t i = 2; i + 2 < order.size(); ++i) CHECK(order[i] != order[i + 1]);
}

// The guest's side of an echo: gives back what comes, within the credit that it has.
struct Echo {
  std::uint32_t forwarded = 0;
  std::uint32_t sent = 0;
  std::uint32_t granted = 0;
  std::vector<std::byte> held = {};
};

void echo(VsockGuest& guest, std::map<std::pair<std::uint32_t, std::uint32_t>, Echo>& all,
          const VsockPacket& packet) {
  const VsockPorts of = packet.ports();
  Echo& one = all[{of.host, of.guest}];
  one.granted = packet.header.fwd_cnt + packet.header.buf_alloc;
  one.held.insert(one.held.end(), packet.data.begin(), packet.data.end());
  one.forwarded += packet.header.len;
  const std::size_t size = std::min<std::size_t>(one.held.size(), one.granted - one.sent);
  if (size == 0) return;
  REQUIRE(guest.send_data(of, std::span(one.held).first(size), one.forwarded));
  one.sent += static_cast<std::uint32_t>(size);
  one.held.erase(one.held.begin(), one.held.begin() + static_cast<std::ptrdiff_t>(size));
}

TEST_CASE("a hundred connections echo at once, fifty from each side") {
  VsockGuest guest;
  HostService listener(guest.service(80));
  guest.start(128);
  std::vector<Fd> hosts;
  for (std::uint32_t i = 0; i < 50; ++i) {
    guest.open({80, 6000 + i});
    hosts.push_back(listener.accept());
    hosts.push_back(std::move(guest.accept(9000 + i).client));
  }
  constexpr std::size_t size = 100'000;
  const auto sent = pattern(size + 100);
  std::vector<std::vector<std::byte>> seen(hosts.size());
  std::thread programs([&] {
    std::vector<std::size_t> done(hosts.size());
    std::size_t left = hosts.size() * size;
    while (left != 0) {
      std::vector<pollfd> entries;
      for (std::size_t i = 0; i < hosts.size(); ++i)
        entries.push_back({.fd = hosts[i].get(),
                           .events = static_cast<short>(POLLIN | (done[i] < size ? POLLOUT : 0)),
                           .revents = 0});
      if (::poll(entries.data(), entries.size(), 20'000) <= 0) return;
      for (std::size_t i = 0; i < hosts.size(); ++i) {
        if ((entries[i].revents & POLLOUT) != 0) {
          const ssize_t count =
              ::send(hosts[i].get(), &sent[i + done[i]], std::min<std::size_t>(size - done[i], 9000),
                     MSG_DONTWAIT | MSG_NOSIGNAL);
          if (count > 0) done[i] += static_cast<std::size_t>(count);
        }
        if ((entries[i].revents & POLLIN) != 0) {
          std::array<std::byte, 20'000> piece;
          const ssize_t count = ::recv(hosts[i].get(), piece.data(), piece.size(), MSG_DONTWAIT);
          if (count <= 0) return;
          seen[i].insert(seen[i].end(), piece.begin(), piece.begin() + count);
          left -= static_cast<std::size_t>(count);
        }
      }
    }
  });
  std::map<std::pair<std::uint32_t, std::uint32_t>, Echo> all;
  std::uint64_t echoed = 0;
  while (echoed < hosts.size() * size) {
    const auto packet = guest.next();
    if (!packet) break;
    echo(guest, all, *packet);
    echoed = guest.counted("bytes_from_guest");
  }
  programs.join();
  for (std::size_t i = 0; i < hosts.size(); ++i)
    CHECK(std::equal(seen[i].begin(), seen[i].end(), sent.begin() + static_cast<std::ptrdiff_t>(i),
                     sent.begin() + static_cast<std::ptrdiff_t>(i + size)));
  CHECK(guest.counted("opened") == 100);
  CHECK(guest.counted("bytes_to_guest") == hosts.size() * size);
}

TEST_CASE("a thousand and twenty-four connections at once, and not one more") {
  const ManyFiles many;
  if (!many.enough()) return;
  VsockGuest guest;
  HostService listener(guest.service(80));
  guest.start();
  std::vector<Fd> hosts;
  for (std::uint32_t i = 0; i < 1024; ++i) {
    guest.open({80, 6000 + i});
    hosts.push_back(listener.accept());
  }
  REQUIRE(guest.send(op_request, {80, 99}));
  guest.expect_reset({80, 99});
  Fd client = connect_to(guest.socket());
  write_all(client, text("CONNECT 1\n"));
  CHECK(ended(client));
  CHECK(guest.counted("refused") == 2);
  for (const std::size_t i : {0u, 512u, 1023u}) {
    write_all(hosts[i], text("x"));
    CHECK(guest.expect(op_rw).header.dst_port == 6000 + i);
  }
  REQUIRE(guest.send(op_rst, {80, 6000}));
  guest.accept(1);
}

TEST_CASE("a socket device is made from its options") {
  const TemporaryFolder folder;
  VirtioMachine machine;
  const std::string path = folder / "v";
  const auto cid_of = [&](const std::string& options) {
    const auto device = machine.create(vsock_kind, path + options);
    std::array<std::byte, 8> space;
    device->read_config(0, space);
    return load_le(space);
  };
  CHECK(cid_of("") == 3);
  CHECK(cid_of(",cid=3") == 3);
  CHECK(cid_of(",cid=4294967294") == 4294967294);
  CHECK(machine.create(vsock_kind, path)->queue_sizes()[0] == 256);
  CHECK(machine.create(vsock_kind, path + ",queue-size=4")->queue_sizes()[2] == 4);
  const auto refusal = [&](const std::string& options) {
    return config_error_of([&] { machine.create(vsock_kind, options); });
  };
  CHECK(contains(refusal(""), "socket"));
  CHECK(contains(refusal(path + ",cid=2"), "vsock.cid '2'"));
  CHECK(contains(refusal(path + ",cid=4294967295"), "vsock.cid"));
  const auto first = machine.create(vsock_kind, path);
  CHECK(contains(refusal(path), "there is something at this path"));
}

}  // namespace
}  // namespace hum::testing
