// SPDX-License-Identifier: Apache-2.0
#include "devices/power.h"

#include "devices/testing.h"
#include "vmm/acpi/fixed_hardware.h"
#include "vmm/base/testing.h"

namespace hum::testing {
namespace {

struct Fixture {
  FakeMachine machine;
  Power power{machine.context};
  FakePin& pin = machine.pins.pin(5);  // the first that is free
};

}  // namespace

TEST_CASE("entering sleep type 5 with the enable bit switches off, and nothing else does") {
  Fixture fixture;
  for (unsigned value = 0; value < 0x100; ++value) {
    CAPTURE(value);
    const int before = fixture.machine.control.power_offs;
    fixture.machine.out(acpi::sleep_control_port, value);
    CHECK(fixture.machine.control.power_offs - before == ((value & 0x3c) == 0x34 ? 1 : 0));
  }
  fixture.machine.out(acpi::sleep_status_port, 0x34);
  CHECK(fixture.machine.control.power_offs == 16);
  CHECK(fixture.machine.control.resets == 0);
}

TEST_CASE("the sleep registers read as zero: the machine does not wake") {
  Fixture fixture;
  fixture.machine.out(acpi::sleep_control_port, 0x14);
  fixture.machine.out(acpi::sleep_status_port, 0x80);
  CHECK(fixture.machine.in(acpi::sleep_control_port) == 0u);
  CHECK(fixture.machine.in(acpi::sleep_status_port) == 0u);
}

TEST_CASE("the reset register resets by its value only") {
  Fixture fixture;
  fixture.machine.out(acpi::reset_port, acpi::reset_value + 1);
  fixture.machine.out(acpi::reset_port, 0);
  CHECK(fixture.machine.control.resets == 0);
  fixture.machine.out(acpi::reset_port, acpi::reset_value);
  CHECK(fixture.machine.control.resets == 1);
  CHECK(fixture.machine.control.power_offs == 0);
}

TEST_CASE("a press of the button interrupts, and the guest reads the event once") {
  Fixture fixture;
  CHECK(fixture.machine.in(acpi::event_port) == 0u);
  CHECK_FALSE(fixture.pin.take());

  CHECK(fixture.power.press_power_button());
  CHECK(fixture.pin.take());
  CHECK(fixture.machine.in(acpi::event_port) == 1u);
  CHECK(fixture.machine.in(acpi::event_port) == 0u);
  CHECK_FALSE(fixture.pin.take());
}

TEST_CASE("every press interrupts, also before the last one was read") {
  Fixture fixture;
  fixture.power.press_power_button();
  fixture.pin.take();
  fixture.power.press_power_button();
  CHECK(fixture.pin.take());
  CHECK(fixture.machine.in(acpi::event_port) == 1u);
  CHECK(fixture.machine.in(acpi::event_port) == 0u);
}

TEST_CASE("a write does not touch the events") {
  Fixture fixture;
  fixture.machine.out(acpi::event_port, 0xff);
  CHECK(fixture.machine.in(acpi::event_port) == 0u);
  fixture.power.press_power_button();
  fixture.machine.out(acpi::event_port, 0xff);
  CHECK(fixture.machine.in(acpi::event_port) == 1u);
}

TEST_CASE("the power block ends at its last port and survives any access") {
  Fixture fixture;
  access_everything(fixture.machine, acpi::power_block_port, acpi::power_block_size);
  CHECK_FALSE(fixture.machine.in(acpi::power_block_port - 1));
  CHECK_FALSE(fixture.machine.in(acpi::power_block_port + acpi::power_block_size));
  CHECK(fixture.machine.in(acpi::event_port, 2) == 0xff00u);
}

TEST_CASE("the guest finds the button and the event device with the pin it was given") {
  Fixture fixture;
  const acpi::Aml node = fixture.power.acpi_node();
  CHECK(contains(node, acpi::eisa_id("PNP0C0C")));
  CHECK(contains(node, acpi::string("ACPI0013")));
  CHECK(contains(node, acpi::interrupt_edge(5)));
  CHECK_FALSE(contains(node, acpi::interrupt_edge(6)));
  CHECK(contains(node, acpi::operation_region_io("EVRG", acpi::event_port, 1)));
}

TEST_CASE("the kind makes the device, and a second one has another pin") {
  FakeMachine machine;
  const auto first = make_platform_device(power_kind, machine);
  const auto second = make_platform_device(power_kind, machine);
  CHECK(contains(first->acpi_node(), acpi::interrupt_edge(5)));
  CHECK(contains(second->acpi_node(), acpi::interrupt_edge(6)));
}

}  // namespace hum::testing
