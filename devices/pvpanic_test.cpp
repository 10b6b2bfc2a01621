// SPDX-License-Identifier: Apache-2.0
#include "devices/pvpanic.h"

#include "devices/testing.h"
#include "vmm/base/testing.h"

namespace hum::testing {

TEST_CASE("pvpanic tells that it knows both events") {
  FakeMachine machine;
  const auto device = make_platform_device(pvpanic_kind, machine);
  CHECK(machine.in(0x505) == 0x03u);
  CHECK(machine.in(0x505, 2) == 0xff03u);
}

TEST_CASE("a panic is passed on, other events are not") {
  FakeMachine machine;
  const auto device = make_platform_device(pvpanic_kind, machine);
  for (const unsigned value : {0x00u, 0x02u, 0xfeu}) machine.out(0x505, value);
  CHECK(machine.control.panics == 0);
  machine.out(0x505, 0x01);
  CHECK(machine.control.panics == 1);
  machine.out(0x505, 0xff);
  CHECK(machine.control.panics == 2);
}

TEST_CASE("pvpanic has one port and survives any access to it") {
  FakeMachine machine;
  const auto device = make_platform_device(pvpanic_kind, machine);
  access_everything(machine, 0x505, 1);
  CHECK_FALSE(machine.in(0x504));
  CHECK_FALSE(machine.in(0x506));
  CHECK(machine.in(0x505) == 0x03u);
}

TEST_CASE("the guest finds pvpanic by its identifier and port") {
  FakeMachine machine;
  const auto device = make_platform_device(pvpanic_kind, machine);
  const acpi::Aml node = device->acpi_node();
  CHECK(contains(node, acpi::string("QEMU0001")));
  CHECK(contains(node, acpi::io_port(0x505, 1)));
}

}  // namespace hum::testing
