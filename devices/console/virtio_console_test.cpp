// SPDX-License-Identifier: Apache-2.0
#include "devices/console/virtio_console.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "devices/console/testing.h"
#include "devices/temporary_file.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using virtio::testing::wait_for;

TEST_CASE("the configuration has the number of ports, and each port its queues") {
  const Channel pipe = make_pipe_channel();
  Guest guest({{"a", {pipe.out.get(), -1}}, {"b", {-1, pipe.in.get()}}});
  std::array<std::byte, 8> space;
  guest.device.read_config(0, space);
  CHECK(load_le(std::span(space).subspan(4)) == 3);
  CHECK(load_le(std::span(space).first(4)) == 0);
  CHECK(guest.device.type() == 3);
  CHECK(guest.device.features() == 2);
  CHECK(guest.device.queue_sizes().size() == 8);
}

TEST_CASE("ports are added, named and opened as the guest asks for it") {
  const Channel pipe = make_pipe_channel();
  Guest guest({{"hum.stdin", {pipe.out.get(), -1}}, {"hum.stdout", {-1, pipe.in.get()}}},
              VirtioConsole::Ends{-1, pipe.in.get()});
  guest.driver.activate();
  guest.give_control_buffers(8);
  CHECK_FALSE(guest.next_control(10ms));
  guest.control({0, device_ready, 1});
  CHECK(guest.next_control() == Message{0, port_add, 1});
  CHECK(guest.next_control() == Message{1, port_add, 1});
  CHECK(guest.next_control() == Message{2, port_add, 1});
  guest.control({2, port_ready, 1});
  CHECK(guest.next_control() == Message{2, port_name, 1, "hum.stdout"});
  CHECK(guest.next_control() == Message{2, port_open, 1});
  guest.control({0, port_ready, 1});
  CHECK(guest.next_control() == Message{0, console_port, 1});
  CHECK(guest.next_control() == Message{0, port_open, 1});
  CHECK_FALSE(guest.next_control(10ms));
}

TEST_CASE("a guest that asks often and gives buffers late gets each message once") {
  const Channel pipe = make_pipe_channel();
  Guest guest({pipe.out.get(), -1});
  guest.driver.activate();
  for (int i = 0; i < 500; ++i) {
    guest.control({0, device_ready, 1});
    guest.control({1, port_ready, 1});
  }
  guest.give_control_buffers(4);
  CHECK(guest.next_control() == Message{1, port_add, 1});
  CHECK(guest.next_control() == Message{1, port_name, 1, "port"});
  CHECK(guest.next_control() == Message{1, port_open, 1});
  CHECK_FALSE(guest.next_control(10ms));
}

TEST_CASE("much output passes unchanged to a slow reader of any kind") {
  for (const auto make : {make_pipe_channel, make_socket, to_terminal, from_terminal}) {
    const Channel channel = make();
    Guest guest({-1, channel.in.get()});
    guest.start();
    const auto sent = pattern(is_terminal(channel.in) ? mib / 8 : mib);
    guest.transmit(sent);
    // The reader does nothing, so the guest does not get its buffers back.
    REQUIRE(readable(channel.out));
    CHECK_FALSE(guest.transmitted(sent.size() / 32768, 1, 20ms));
    std::vector<std::byte> seen;
    while (seen.size() < sent.size()) {
      const auto piece = read_all(channel.out, std::min<std::size_t>(sent.size() - seen.size(), 50'000));
      if (piece.empty()) break;
      seen.insert(seen.end(), piece.begin(), piece.end());
      std::this_thread::sleep_for(1ms);
    }
    CHECK(seen == sent);
  }
}

TEST_CASE("output that was held up is given back when it is written, and more is taken") {
  const Channel pipe = make_pipe_channel();
  Guest guest({-1, pipe.in.get()});
  guest.start();
  const auto sent = pattern(256 * 1024);
  guest.transmit(sent);
  REQUIRE(readable(pipe.out));
  CHECK(read_all(pipe.out, sent.size()) == sent);
  CHECK(guest.transmitted(8));
  guest.transmit(text("more"));
  CHECK(read_all(pipe.out, 4) == text("more"));
  CHECK(guest.transmitted(1));
}

TEST_CASE("a mebibyte of input passes unchanged to a slow guest, and its end follows") {
  for (const auto make : {make_pipe_channel, make_socket, to_terminal, from_terminal}) {
    Channel channel = make();
    Guest guest({channel.out.get(), -1});
    guest.start();
    const auto sent = pattern(mib);
    const bool keep_open = is_terminal(channel.in);
    std::thread writer([&] {
      write_all(channel.in, sent);
      // A terminal loses on its last close what was not read yet.
      if (!keep_open) channel.in.reset();
    });
    std::vector<std::byte> seen;
    while (seen.size() < sent.size()) {
      const auto piece = guest.receive(static_cast<std::uint32_t>(5000 + seen.size() % 7000));
      if (piece.empty()) break;
      seen.insert(seen.end(), piece.begin(), piece.end());
      if (seen.size() % 16 == 0) std::this_thread::sleep_for(1ms);
    }
    writer.join();
    channel.in.reset();
    CHECK(seen == sent);
    guest.give(16);
    CHECK(guest.next_control() == Message{1, port_open, 0});
    CHECK(guest.received(1, 10ms).empty());
  }
}

TEST_CASE("a regular file is read from where its descriptor stands, and written there") {
  const TemporaryFile source(0);
  const TemporaryFile target(0);
  const Fd input = open_file(source.path(), O_RDWR);
  const Fd output = open_file(target.path(), O_RDWR | O_APPEND);
  const auto sent = pattern(300'000);
  write_all(input, sent);
  write_all(output, text("before "));
  REQUIRE(::lseek(input.get(), 100, SEEK_SET) == 100);
  Guest guest({input.get(), output.get()});
  guest.start();
  std::vector<std::byte> seen;
  while (seen.size() < sent.size() - 100) {
    const auto piece = guest.receive(60'000);
    if (piece.empty()) break;
    seen.insert(seen.end(), piece.begin(), piece.end());
  }
  CHECK(std::equal(seen.begin(), seen.end(), sent.begin() + 100, sent.end()));
  guest.give(16);
  CHECK(guest.next_control() == Message{1, port_open, 0});
  guest.transmit(text("after"));
  REQUIRE(guest.transmitted(1));
  REQUIRE(::lseek(output.get(), 0, SEEK_SET) == 0);
  CHECK(read_all(output, 100) == text("before after"));
}

TEST_CASE("a socket carries both directions of one port at once") {
  const Channel channel = make_socket();
  Guest guest({channel.in.get(), channel.in.get()});
  guest.start();
  guest.give(100);
  guest.transmit(text("to the host"));
  CHECK(read_all(channel.out, 11) == text("to the host"));
  write_all(channel.out, text("to the guest"));
  CHECK(guest.received() == text("to the guest"));
}

TEST_CASE("the input is left alone until the guest has opened the port and given a buffer") {
  const Channel pipe = make_pipe_channel();
  Guest guest({pipe.out.get(), -1});
  write_all(pipe.in, text("abc"));
  guest.driver.activate();
  guest.give(2);
  CHECK(guest.received(1, 10ms).empty());
  CHECK(unread(pipe.out) == 3);
  guest.control({1, port_open, 1});
  CHECK(guest.received() == text("ab"));
  CHECK(unread(pipe.out) == 1);
  guest.control({1, port_open, 0});
  guest.give(2);
  CHECK(guest.received(1, 10ms).empty());
  CHECK(unread(pipe.out) == 1);
  guest.control({1, port_open, 1});
  CHECK(guest.received() == text("c"));
}

TEST_CASE("the flags of a descriptor that was handed in stay as they are") {
  for (const auto make : {make_pipe_channel, make_socket, to_terminal, from_terminal}) {
    const Channel channel = make();
    Guest guest({channel.out.get(), channel.in.get()});
    guest.start();
    guest.give(100);
    guest.transmit(text("x"));
    CHECK(guest.received() == text("x"));
    CHECK((::fcntl(channel.out.get(), F_GETFL) & O_NONBLOCK) == 0);
    CHECK((::fcntl(channel.in.get(), F_GETFL) & O_NONBLOCK) == 0);
  }
}

TEST_CASE("output nobody reads any more is discarded, and the other ports go on") {
  for (const auto make : {make_pipe_channel, make_socket}) {
    Channel gone = make();
    const Channel other = make_pipe_channel();
    Guest guest({{"gone", {-1, gone.in.get()}}, {"other", {-1, other.in.get()}}});
    guest.start(2);
    guest.transmit(pattern(512 * 1024), 1);  // more than fits, so that the device waits
    REQUIRE(readable(gone.out));
    CHECK_FALSE(guest.transmitted(16, 1, 10ms));
    gone.out.reset();
    guest.transmit(text("hello"), 1);
    guest.transmit(text("hello"), 2);
    CHECK(guest.transmitted(1, 1));
    CHECK(read_all(other.out, 5) == text("hello"));
    CHECK(guest.machine.logged().empty());
    CHECK_FALSE(guest.next_control(10ms));
  }
}

TEST_CASE("output the host cannot write is discarded and logged once") {
  const Fd full = open_file("/dev/full", O_WRONLY);
  Guest guest({-1, full.get()});
  guest.start();
  guest.transmit(text("hello"));
  guest.transmit(text("hello"));
  CHECK(guest.transmitted(2));
  const std::string log = guest.machine.logged();
  CHECK(contains(log, "console port 'port'"));
  CHECK_FALSE(contains(log, "hello"));
  CHECK(std::count(log.begin(), log.end(), '\n') == 1);
}

TEST_CASE("an input that cannot be read ends") {
  const Fd folder = open_file("/tmp", O_RDONLY | O_DIRECTORY);
  Guest guest({folder.get(), -1});
  guest.start();
  guest.give(16);
  CHECK(guest.next_control() == Message{1, port_open, 0});
  CHECK(contains(guest.machine.logged(), "cannot read its input"));
}

TEST_CASE("the null device ends at once as an input and takes everything as an output") {
  const Fd null = open_file("/dev/null", O_RDWR);
  Guest guest({null.get(), null.get()});
  guest.start();
  guest.give(16);
  CHECK(guest.next_control() == Message{1, port_open, 0});
  guest.transmit(pattern(256 * 1024));
  CHECK(guest.transmitted(8));
}

TEST_CASE("a port without an input or an output gives nothing and takes everything") {
  const Channel pipe = make_pipe_channel();
  Guest guest({{"in", {pipe.out.get(), -1}}, {"out", {-1, pipe.in.get()}}});
  guest.start(2);
  guest.transmit(text("nowhere"), 1);
  CHECK(guest.transmitted(1, 1));
  CHECK(guest.receive(16, 2, 10ms).empty());
  CHECK(unread(pipe.out) == 0);
}

TEST_CASE("control messages that make no sense are ignored") {
  const Channel pipe = make_pipe_channel();
  Guest guest({pipe.out.get(), -1});
  write_all(pipe.in, text("abc"));
  guest.driver.activate();
  guest.give_control_buffers(4);
  guest.give(16);
  const auto raw = [&](std::size_t size) {
    std::vector<std::byte> bytes(size, std::byte{0});
    return guest.driver.request(3, bytes, 0).has_value();
  };
  CHECK(raw(1));
  CHECK(raw(7));
  CHECK(guest.driver.request(3, {}, 8));
  guest.control({0, device_ready, 0});
  guest.control({1, port_ready, 0});
  for (const std::uint32_t id : {0u, 2u, 3u, 0x80000000u, UINT32_MAX}) {
    guest.control({id, port_ready, 1});
    guest.control({id, port_open, 1});
  }
  for (const unsigned event : {1u, 2u, 4u, 5u, 7u, 8u, 32u, 38u, 0xffffu})
    guest.control({1, static_cast<std::uint16_t>(event), 1});
  CHECK_FALSE(guest.next_control(10ms));
  CHECK(unread(pipe.out) == 3);
  CHECK(guest.driver.events().resets == 0);
  guest.control({1, port_open, 1});
  CHECK(guest.received() == text("abc"));
}

TEST_CASE("a control buffer that is too small gets what fits") {
  const Channel pipe = make_pipe_channel();
  Guest guest({pipe.out.get(), -1});
  guest.driver.activate();
  const GuestAddress at = guest.driver.allocate(64);
  guest.driver.queue(2).add({{at, 5, true}});
  guest.driver.queue(2).add({{at, 10, true}});
  guest.driver.queue(2).add({{at, 5}});
  guest.control({0, device_ready, 1});
  guest.control({1, port_ready, 1});
  CHECK(guest.driver.wait_used(2)->written == 5);
  CHECK(guest.driver.wait_used(2)->written == 10);
  CHECK(guest.driver.wait_used(2)->written == 0);
  CHECK(guest.driver.events().resets == 0);
}

TEST_CASE("data requests that are the wrong way round come back unused and end nothing") {
  const Channel pipe = make_pipe_channel();
  Guest guest({pipe.out.get(), pipe.in.get()});
  guest.start();
  const GuestAddress at = guest.driver.allocate(64);
  guest.driver.queue(4).add({{at, 64}});
  guest.driver.queue(5).add({{at, 64, true}});
  guest.driver.kick(4);
  guest.driver.kick(5);
  CHECK(guest.driver.wait_used(4)->written == 0);
  CHECK(guest.driver.wait_used(5)->written == 0);
  guest.transmit(text("x"));
  CHECK(guest.receive(16) == text("x"));
  CHECK(guest.driver.events().resets == 0);
}

TEST_CASE("a broken ring stops all ports until the reset, and the input keeps its bytes") {
  const Channel pipe = make_pipe_channel();
  Guest guest({pipe.out.get(), -1});
  guest.start();
  CHECK(guest.receive(16, 1, 10ms).empty());  // the device now waits for the pipe
  guest.driver.queue(5).set_available_index(1000);
  guest.driver.kick(5);
  REQUIRE(wait_for(guest.driver.events().broken));
  write_all(pipe.in, text("abc"));
  CHECK(guest.received(1, 10ms).empty());
  CHECK(guest.driver.events().resets == 1);
  guest.driver.reset();
  guest.forget_control_buffers();
  guest.start();
  CHECK(guest.receive(16) == text("abc"));
}

TEST_CASE("a reset while output and input are held up returns at once, and nothing unread is lost") {
  const Channel output = make_pipe_channel();
  const Channel input = make_pipe_channel();
  Guest guest({input.out.get(), output.in.get()});
  guest.start();
  guest.transmit(pattern(512 * 1024));
  CHECK(guest.receive(16, 1, 10ms).empty());
  REQUIRE(readable(output.out));
  const auto before = std::chrono::steady_clock::now();
  guest.driver.reset();
  CHECK(std::chrono::steady_clock::now() - before < 2s);

  write_all(input.in, text("abc"));
  std::size_t stale = unread(output.out);
  CHECK(stale > 0);
  read_all(output.out, stale);
  guest.forget_control_buffers();
  guest.start();
  CHECK(guest.receive(16) == text("abc"));
  guest.transmit(text("fresh"));
  CHECK(read_all(output.out, 5) == text("fresh"));
  CHECK(guest.transmitted(1));
}

TEST_CASE("a reset does not wait for a reader of any kind") {
  for (const auto make : {make_pipe_channel, make_socket, to_terminal, from_terminal}) {
    const Channel channel = make();
    Guest guest({-1, channel.in.get()});
    guest.start();
    guest.transmit(pattern(mib));
    REQUIRE(readable(channel.out));
    CHECK_FALSE(guest.transmitted(32, 1, 50ms));
    guest.driver.reset();
  }
}

TEST_CASE("the end of an input is told again after a reset") {
  Channel pipe = make_pipe_channel();
  Guest guest({pipe.out.get(), -1});
  pipe.in.reset();
  guest.start();
  guest.give(16);
  CHECK(guest.next_control() == Message{1, port_open, 0});
  guest.driver.reset();
  guest.forget_control_buffers();
  guest.driver.activate();
  guest.give_control_buffers(4);
  guest.control({1, port_ready, 1});
  CHECK(guest.next_control() == Message{1, port_name, 1, "port"});
  CHECK(guest.next_control() == Message{1, port_open, 0});
}

TEST_CASE("a flush writes what the guest has queued, however slow the reader is") {
  const Channel pipe = make_pipe_channel();
  Guest guest({-1, pipe.in.get()});
  guest.start();
  const auto sent = pattern(mib);
  std::vector<std::byte> seen;
  guest.transmit(sent);
  std::thread reader([&] {
    std::this_thread::sleep_for(300ms);
    while (seen.size() < sent.size()) {
      std::this_thread::sleep_for(2ms);
      const auto piece = read_all(pipe.out, std::min<std::size_t>(64 * 1024, sent.size() - seen.size()));
      if (piece.empty()) break;
      seen.insert(seen.end(), piece.begin(), piece.end());
    }
  });
  const EventFd give_up;
  guest.device.flush(give_up.fd());
  guest.driver.reset();
  reader.join();
  CHECK(seen == sent);
  CHECK(guest.machine.logged().empty());
}

TEST_CASE("a flush writes what was queued without a kick, and then does not wait") {
  const Channel pipe = make_pipe_channel();
  Guest guest({-1, pipe.in.get()});
  guest.start();
  guest.driver.queue(5).add({{guest.driver.place(text("last words")), 10}});
  const EventFd give_up;
  guest.device.flush(give_up.fd());
  CHECK(unread(pipe.out) == 10);
}

TEST_CASE("a flush waits for a reader that does nothing until it is told to give up") {
  const Channel stalled = make_pipe_channel();
  const Channel other = make_pipe_channel();
  Guest guest({{"stalled", {-1, stalled.in.get()}}, {"other", {-1, other.in.get()}}});
  guest.start(2);
  guest.transmit(pattern(512 * 1024), 1);
  guest.driver.queue(7).add({{guest.driver.place(text("last words")), 10}});
  const EventFd give_up;
  std::atomic<bool> over = false;
  std::thread flush([&] {
    guest.device.flush(give_up.fd());
    over = true;
  });
  CHECK(read_all(other.out, 10) == text("last words"));
  std::this_thread::sleep_for(50ms);
  CHECK_FALSE(over);
  give_up.signal();
  flush.join();
  CHECK(contains(guest.machine.logged(), "behind"));
}

TEST_CASE("a flush that has been given up before it begins still writes what fits") {
  const Channel pipe = make_pipe_channel();
  Guest guest({-1, pipe.in.get()});
  guest.start();
  guest.driver.queue(5).add({{guest.driver.place(text("last words")), 10}});
  const EventFd give_up;
  give_up.signal();
  guest.device.flush(give_up.fd());
  CHECK(unread(pipe.out) == 10);
  CHECK(guest.machine.logged().empty());
}

TEST_CASE("a flush ends when the reader is gone") {
  Channel pipe = make_pipe_channel();
  Guest guest({-1, pipe.in.get()});
  guest.start();
  guest.transmit(pattern(512 * 1024));
  REQUIRE(readable(pipe.out));
  std::thread reader([&] {
    std::this_thread::sleep_for(20ms);
    pipe.out.reset();
  });
  const EventFd give_up;
  guest.device.flush(give_up.fd());
  reader.join();
  CHECK(guest.transmitted(16));
}

TEST_CASE("a flush of a device that is not active does nothing") {
  const Channel pipe = make_pipe_channel();
  Guest guest({-1, pipe.in.get()});
  const EventFd give_up;
  guest.device.flush(give_up.fd());
  CHECK(unread(pipe.out) == 0);
}

TEST_CASE("without MULTIPORT the console is open from the start") {
  const Channel channel = make_socket();
  Guest guest({}, VirtioConsole::Ends{channel.in.get(), channel.in.get()});
  guest.driver.activate(~2ull);
  write_all(channel.out, text("abc"));
  CHECK(guest.receive(16, 0) == text("abc"));
  guest.transmit(text("def"), 0);
  CHECK(read_all(channel.out, 3) == text("def"));
}

TEST_CASE("a guest that takes port 0 for a console though there is none is not held up") {
  const Channel pipe = make_pipe_channel();
  Guest guest({pipe.out.get(), -1});
  guest.driver.activate(~2ull);
  guest.transmit(text("nowhere"), 0);
  CHECK(guest.transmitted(1, 0));
}

TEST_CASE("a console device is made from its options") {
  VirtioMachine machine;
  const Channel pipe = make_pipe_channel();
  const std::string read_end = std::to_string(pipe.out.get());
  const std::string write_end = std::to_string(pipe.in.get());
  const auto ports = machine.create(console_kind, "hum.stdin:" + read_end + ":-+hum.stdout:-:" + write_end);
  CHECK(ports->queue_sizes().size() == 8);
  CHECK(machine.create(console_kind, "console=" + read_end + ":" + write_end)->queue_sizes().size() == 4);

  const auto refusal = [&](const std::string& options) {
    return config_error_of([&] { machine.create(console_kind, options); });
  };
  CHECK(contains(refusal(""), "no port"));
  CHECK(contains(refusal("a:b"), "console.ports 'a:b': not a list of ports"));
  CHECK(contains(refusal(":0:-"), "no name"));
  CHECK(contains(refusal("a b:0:-"), "'a b' is no name"));
  CHECK(contains(refusal(std::string(65, 'a') + ":0:-"), "no name"));
  CHECK(contains(refusal("a:-:-"), "no descriptor"));
  for (const std::string word : {"x", "1x", "-1", "", "99999999999"})
    CHECK(contains(refusal("a:" + word + ":-"), "'" + word + "' is no descriptor"));
  CHECK(contains(refusal("a:987654:-"), "descriptor 987654 is not open"));
  CHECK(contains(refusal("a:" + write_end + ":-"), "cannot be read"));
  CHECK(contains(refusal("a:-:" + read_end), "cannot be written"));
  CHECK(contains(refusal("a:" + read_end + ":-+a:" + read_end + ":-"), "'a' is there twice"));
  CHECK(contains(refusal("console=" + read_end), "not a pair"));
  std::string many = "p0:" + read_end + ":-";
  for (int i = 1; i < 15; ++i) many += "+p" + std::to_string(i) + ":" + read_end + ":-";
  CHECK(machine.create(console_kind, many + ",console=-:" + write_end)->queue_sizes().size() == 34);
  CHECK(contains(refusal(many + "+q:" + read_end + ":-"), "too many ports"));
}

}  // namespace
}  // namespace hum
