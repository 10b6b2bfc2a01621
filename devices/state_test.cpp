// SPDX-License-Identifier: Apache-2.0
// The state of the devices, as one takes over from another.
#include "vmm/base/state.h"

#include <array>
#include <memory>
#include <string>

#include "devices/block/block_device.h"
#include "devices/cmos.h"
#include "devices/console/testing.h"
#include "devices/power.h"
#include "devices/serial.h"
#include "devices/temporary_file.h"
#include "devices/testing.h"
#include "devices/virtio_testing.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"

namespace hum::testing {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

TEST_CASE("a serial port goes on in another machine, with what it has received") {
  FakeMachine machine;
  FakeMachine next;
  const auto source = make_platform_device(serial_kind, machine);
  const auto fresh = make_platform_device(serial_kind, next);
  machine.out(0x3fa, 0xc1);  // FIFOs, trigger level 14
  machine.out(0x3fb, 0x80);
  machine.out(0x3f8, 0x0c, 2);
  machine.out(0x3fb, 0x03);
  machine.out(0x3f9, 0x05);
  machine.out(0x3ff, 0x77);
  REQUIRE(machine.console.send(bytes("abc")));
  CHECK(machine.in(0x3f8) == 'a');
  CHECK(mistakes_in_fields(*source, *fresh) == "");
  CHECK(next.in(0x3ff) == 0x77);
  CHECK(next.in(0x3fa) == 0xcc);
  CHECK(next.in(0x3f8) == 'b');
  CHECK(next.in(0x3f8) == 'c');
  CHECK(next.in(0x3fd) == 0x60);
  REQUIRE(next.console.send(bytes("d")));
  CHECK(next.pins.pin(4).take());
  CHECK(next.in(0x3f8) == 'd');
}

TEST_CASE("more received bytes than the FIFO holds are refused") {
  FakeMachine machine;
  FakeMachine next;
  const auto with_fifo = make_platform_device(serial_kind, machine);
  const auto without = make_platform_device(serial_kind, next);
  machine.out(0x3fa, 0x01);
  REQUIRE(machine.console.send(bytes("ab")));
  auto state = state_of(*with_fifo);
  // The byte behind the name is the field's.
  const std::string_view name = "fifo-control";
  const auto at = std::search(state.begin(), state.end(), bytes(name).begin(), bytes(name).end());
  REQUIRE(at != state.end());
  at[static_cast<std::ptrdiff_t>(name.size())] = std::byte{0};
  CHECK_THROWS_AS(restore(*without, state), ConfigError);
}

TEST_CASE("CMOS memory and the power button's event go on in another machine") {
  FakeMachine machine;
  FakeMachine next;
  {
    const auto source = make_platform_device(cmos_kind, machine);
    const auto fresh = make_platform_device(cmos_kind, next);
    machine.out(0x70, 0x40);
    machine.out(0x71, 0x99);
    CHECK(mistakes_in_fields(*source, *fresh) == "");
    CHECK(next.in(0x71) == 0x99);
  }
  const auto source = make_platform_device(power_kind, machine);
  const auto fresh = make_platform_device(power_kind, next);
  CHECK(source->press_power_button());
  CHECK(mistakes_in_fields(*source, *fresh) == "");
  CHECK(next.in(0x603) == 1);
  CHECK(next.in(0x603) == 0);
}

TEST_CASE("a disk of another size is refused") {
  VirtioMachine machine;
  const TemporaryFile one(1 << 20);
  const TemporaryFile equal(1 << 20);
  const TemporaryFile larger(2 << 20);
  const auto source = machine.create(block_kind, one.path());
  const auto state = state_of(*source);
  restore(*machine.create(block_kind, equal.path()), state);
  CHECK_THROWS_AS(restore(*machine.create(block_kind, larger.path()), state), ConfigError);
}

TEST_CASE("a console that is paused in the middle of a request loses and doubles no byte") {
  Channel channel = make_pipe_channel();
  Guest guest({-1, channel.in.get()});
  guest.start();
  const auto sent = pattern(mib / 4);  // more than a pipe holds
  guest.transmit(sent);
  REQUIRE(readable(channel.out));
  while (unread(channel.out) < 64 * 1024) std::this_thread::yield();
  auto queues = guest.device.suspend();
  REQUIRE(queues.size() == guest.device.queue_sizes().size());
  for (const auto& queue : queues) CHECK(queue.queue->next_available() == queue.queue->next_used());
  CHECK(guest.device.suspend().empty());

  const auto state = state_of(guest.device);
  VirtioConsole other(std::nullopt, std::array{VirtioConsole::NamedPort{"port", {-1, channel.in.get()}}},
                      guest.machine.log);
  CHECK(mistakes_in_fields(guest.device, other) == "");
  CHECK(state_of(other) == state);
  other.activate(other.features(), std::move(queues), guest.driver.events());
  CHECK(read_all(channel.out, sent.size()) == sent);
  CHECK(guest.transmitted(sent.size() / (32 * 1024)));
  other.suspend();
}

TEST_CASE("a console with other ports is refused, and a reset forgets what was open") {
  Channel channel = make_pipe_channel();
  Guest guest({-1, channel.in.get()});
  VirtioConsole fresh(std::nullopt, std::array{VirtioConsole::NamedPort{"port", {-1, channel.in.get()}}},
                      guest.machine.log);
  const auto closed = state_of(fresh);
  guest.start();
  guest.device.suspend();
  const auto state = state_of(guest.device);
  CHECK(state != closed);
  VirtioConsole other(std::nullopt, std::array{VirtioConsole::NamedPort{"other", {-1, channel.in.get()}}},
                      guest.machine.log);
  CHECK_THROWS_AS(restore(other, state), ConfigError);
  guest.device.deactivate();
  CHECK(state_of(guest.device) == closed);
}

}  // namespace hum::testing
