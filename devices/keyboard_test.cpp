// SPDX-License-Identifier: Apache-2.0
#include "devices/keyboard.h"

#include <vector>

#include "devices/testing.h"
#include "vmm/base/state_testing.h"
#include "vmm/base/testing.h"

namespace hum::testing {
namespace {

using Bytes = std::vector<unsigned>;

const Bytes translated_keys = {0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d};
const Bytes plain_keys = {0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14};

struct Fixture {
  bool full() { return (machine.in(0x64).value() & 0x01) != 0; }
  // All that can be read.
  Bytes read() {
    Bytes bytes;
    while (full()) bytes.push_back(static_cast<unsigned>(machine.in(0x60).value()));
    return bytes;
  }
  Bytes controller(unsigned command) {
    machine.out(0x64, command);
    return read();
  }
  void controller(unsigned command, unsigned data) {
    machine.out(0x64, command);
    machine.out(0x60, data);
  }
  Bytes type(unsigned byte) {
    machine.out(0x60, byte);
    return read();
  }

  FakeMachine machine;
  Keyboard keyboard{machine.context};
  FakePin& pin = machine.pins.pin(1);
};

}  // namespace

TEST_CASE("the keyboard controller passes the tests that a driver begins with") {
  Fixture fixture;
  CHECK_FALSE(fixture.full());
  CHECK(fixture.machine.in(0x64) == 0x14);  // unlocked, tested, room for a command
  CHECK(fixture.controller(0xaa) == Bytes{0x55});
  CHECK(fixture.controller(0xab) == Bytes{0x00});
  CHECK(fixture.controller(0xa9) == Bytes{0xff});  // there is no mouse
  CHECK(fixture.controller(0xc0) == Bytes{0x80});
  CHECK(fixture.controller(0xd0) == Bytes{0x03});
  CHECK((fixture.machine.in(0x64).value() & 0x08) != 0);
  fixture.type(0xee);
  CHECK((fixture.machine.in(0x64).value() & 0x08) == 0);
}

TEST_CASE("the command byte is read as it was written, but never with a mouse") {
  Fixture fixture;
  CHECK(fixture.controller(0x20) == Bytes{0x65});
  fixture.controller(0x60, 0x54);
  CHECK(fixture.controller(0x20) == Bytes{0x74});
  fixture.controller(0xa8);
  CHECK(fixture.controller(0x20) == Bytes{0x74});
  fixture.controller(0xae);
  CHECK(fixture.controller(0x20) == Bytes{0x64});
  fixture.controller(0xad);
  CHECK(fixture.controller(0x20) == Bytes{0x74});
  CHECK(fixture.controller(0x60) == Bytes{});  // another command in place of the byte
  CHECK(fixture.controller(0x20) == Bytes{0x74});
  CHECK(fixture.type(0xee) == Bytes{0xee});  // which turns the keyboard on
  CHECK(fixture.controller(0x20) == Bytes{0x64});
}

TEST_CASE("the controller's loops give the byte back, and one for a mouse is lost") {
  Fixture fixture;
  for (const unsigned command : {0xd2u, 0xd3u}) {
    fixture.controller(command, 0x5a);
    CHECK(fixture.read() == Bytes{0x5a});
  }
  fixture.controller(0xd4, 0xf2);
  CHECK(fixture.read() == Bytes{});
}

TEST_CASE("the keyboard answers what a driver asks at its start") {
  Fixture fixture;
  CHECK(fixture.type(0xff) == Bytes{0xfa, 0xaa});
  CHECK(fixture.type(0xf2) == Bytes{0xfa, 0xab, 0x41});
  CHECK(fixture.type(0xee) == Bytes{0xee});
  for (const unsigned command : {0xedu, 0xf3u}) {
    CHECK(fixture.type(command) == Bytes{0xfa});
    CHECK(fixture.type(0xf2) == Bytes{0xfa});  // its parameter
  }
  CHECK(fixture.type(0xf0) == Bytes{0xfa});
  CHECK(fixture.type(0x00) == Bytes{0xfa, 0x41});
  for (const auto& [set, answer] : {std::pair(1u, 0xfeu), {2u, 0xfau}, {3u, 0xfeu}}) {
    CHECK(fixture.type(0xf0) == Bytes{0xfa});
    CHECK(fixture.type(set) == Bytes{answer});
  }
  for (const unsigned command : {0xf4u, 0xf5u, 0xf6u}) CHECK(fixture.type(command) == Bytes{0xfa});
  CHECK(fixture.type(0x42) == Bytes{0xfe});
  fixture.controller(0x60, 0x25);  // without translation
  CHECK(fixture.type(0xf2) == Bytes{0xfa, 0xab, 0x83});
  CHECK(fixture.type(0xf0) == Bytes{0xfa});
  CHECK(fixture.type(0x00) == Bytes{0xfa, 0x02});
}

TEST_CASE("ctrl, alt and delete go down and up again, in the code that the guest has chosen") {
  Fixture fixture;
  CHECK(fixture.keyboard.press_ctrl_alt_del());
  CHECK(fixture.read() == translated_keys);
  fixture.controller(0x60, 0x25);
  CHECK(fixture.keyboard.press_ctrl_alt_del());
  CHECK(fixture.read() == plain_keys);
}

TEST_CASE("keys are typed as a whole or not at all") {
  Fixture fixture;
  CHECK(fixture.keyboard.press_ctrl_alt_del());
  CHECK(fixture.keyboard.press_ctrl_alt_del());
  CHECK_FALSE(fixture.keyboard.press_ctrl_alt_del());
  fixture.machine.in(0x60);
  CHECK_FALSE(fixture.keyboard.press_ctrl_alt_del());
  CHECK(fixture.read().size() == 15);

  CHECK(fixture.type(0xf5) == Bytes{0xfa});
  CHECK_FALSE(fixture.keyboard.press_ctrl_alt_del());
  CHECK(fixture.type(0xf4) == Bytes{0xfa});
  CHECK(fixture.keyboard.press_ctrl_alt_del());
}

TEST_CASE("each byte interrupts once, if the guest wants that, and is kept if it does not") {
  Fixture fixture;
  CHECK_FALSE(fixture.pin.take());
  fixture.keyboard.press_ctrl_alt_del();
  for (const unsigned key : translated_keys) {
    CHECK(fixture.pin.take());
    CHECK(fixture.machine.in(0x60) == key);
  }
  CHECK_FALSE(fixture.pin.take());

  fixture.controller(0x60, 0x64);
  fixture.keyboard.press_ctrl_alt_del();
  CHECK_FALSE(fixture.pin.take());
  fixture.controller(0x60, 0x75);  // with interrupts, but the keyboard is off
  CHECK_FALSE(fixture.full());
  CHECK_FALSE(fixture.pin.take());
  fixture.machine.out(0x64, 0xae);
  CHECK(fixture.pin.take());
  CHECK(fixture.read() == translated_keys);
}

TEST_CASE("the controller's answer comes before what the keyboard has sent") {
  Fixture fixture;
  fixture.machine.out(0x60, 0xf2);
  CHECK(fixture.controller(0xaa) == Bytes{0x55, 0xfa, 0xab, 0x41});
}

TEST_CASE("the keyboard controller resets by its line, and by nothing else") {
  Fixture fixture;
  for (unsigned command = 0; command < 0x100; ++command) {
    CAPTURE(command);
    const int before = fixture.machine.control.resets;
    fixture.machine.out(0x64, command);
    CHECK(fixture.machine.control.resets - before == (command >= 0xf0 && command % 2 == 0 ? 1 : 0));
  }
  CHECK(fixture.machine.control.resets == 8);
  fixture.controller(0xd1, 0x03);
  CHECK(fixture.machine.control.resets == 8);
  fixture.controller(0xd1, 0x02);
  CHECK(fixture.machine.control.resets == 9);
  CHECK(fixture.machine.control.power_offs == 0);
}

TEST_CASE("a keyboard survives any access, and a guest that never reads") {
  Fixture fixture;
  access_everything(fixture.machine, 0x60, 5);
  for (unsigned i = 0; i < 1000; ++i) fixture.machine.out(0x60, 0xf2);
  CHECK(fixture.read().size() <= 17);
  for (const std::uint64_t port : {0x5fu, 0x61u, 0x63u, 0x65u}) CHECK_FALSE(fixture.machine.in(port));
}

TEST_CASE("the guest is told of a keyboard, its ports and its pin") {
  FakeMachine machine;
  const auto device = make_platform_device(keyboard_kind, machine);
  const acpi::Aml node = device->acpi_node();
  CHECK(contains(node, acpi::eisa_id("PNP0303")));
  CHECK(contains(node, acpi::io_port(0x60, 1)));
  CHECK(contains(node, acpi::io_port(0x64, 1)));
  CHECK(contains(node, acpi::interrupt_edge(1)));
  acpi::FixedHardware fixed;
  device->declare(fixed);
  CHECK(fixed.i8042);
}

TEST_CASE("a keyboard goes on in another machine, in the middle of a command and of its keys") {
  Fixture fixture;
  Fixture next;
  fixture.controller(0x60, 0x24);
  fixture.machine.out(0x60, 0xed);
  CHECK(fixture.keyboard.press_ctrl_alt_del());
  fixture.machine.in(0x60);
  fixture.machine.out(0x64, 0x20);
  fixture.machine.out(0x64, 0x60);
  CHECK(mistakes_in_fields(fixture.keyboard, next.keyboard) == "");
  next.machine.out(0x60, 0x25);  // the command byte
  Bytes expected = {0x24};
  expected.insert(expected.end(), plain_keys.begin(), plain_keys.end());
  CHECK(next.read() == expected);
  CHECK(next.type(0x02) == Bytes{0xfa});  // the lights
}

}  // namespace hum::testing
