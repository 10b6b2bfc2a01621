// SPDX-License-Identifier: Apache-2.0
#include "devices/i8042.h"

#include "devices/testing.h"
#include "vmm/base/testing.h"

namespace hum::testing {

TEST_CASE("the keyboard controller's reset command resets, and no other does") {
  FakeMachine machine;
  const auto device = make_platform_device(i8042_kind, machine);
  for (const unsigned command : {0x00u, 0x20u, 0x60u, 0xaau, 0xd1u, 0xf0u, 0xfdu, 0xffu})
    machine.out(0x64, command);
  CHECK(machine.control.resets == 0);
  machine.out(0x64, 0xfe);
  CHECK(machine.control.resets == 1);
}

TEST_CASE("the status never keeps a driver waiting to write, and makes a probe give up at once") {
  FakeMachine machine;
  const auto device = make_platform_device(i8042_kind, machine);
  machine.out(0x64, 0xaa);
  const std::uint64_t status = machine.in(0x64).value();
  CHECK((status & 0x02) == 0);  // input buffer empty
  CHECK((status & 0x01) != 0);  // output buffer full
}

TEST_CASE("the keyboard controller survives any access to it") {
  FakeMachine machine;
  const auto device = make_platform_device(i8042_kind, machine);
  access_everything(machine, 0x64, 1);
  CHECK(machine.control.resets == 0);
  machine.out(0x64, 0x1234fe, 4);
  CHECK(machine.control.resets == 1);
}

TEST_CASE("the guest is told of no keyboard") {
  FakeMachine machine;
  CHECK(make_platform_device(i8042_kind, machine)->acpi_node().empty());
  CHECK_FALSE(machine.in(0x64));
}

}  // namespace hum::testing
