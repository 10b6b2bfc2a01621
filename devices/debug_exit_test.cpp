// SPDX-License-Identifier: Apache-2.0
#include "devices/debug_exit.h"

#include "devices/testing.h"
#include "vmm/base/testing.h"

namespace hum::testing {

TEST_CASE("a write to the exit port of 1, 2 or 4 bytes ends the VM with its value") {
  FakeMachine machine;
  const auto device = make_platform_device(debug_exit_kind, machine);
  CHECK(machine.out(0xf4, 0x11, 1));
  CHECK(machine.out(0xf4, 0x1122, 2));
  CHECK(machine.out(0xf4, 0x11223344, 4));
  CHECK(machine.out(0xf4, 0, 1));
  CHECK(machine.control.exit_codes == std::vector<std::uint32_t>{0x11, 0x1122, 0x11223344, 0});
}

TEST_CASE("the exit port reads as all ones and a read ends nothing") {
  FakeMachine machine;
  const auto device = make_platform_device(debug_exit_kind, machine);
  CHECK(machine.in(0xf4, 1) == 0xffu);
  CHECK(machine.in(0xf4, 4) == 0xffffffffu);
  CHECK(machine.in(0xf7, 1) == 0xffu);
  CHECK(machine.control.exit_codes.empty());
}

TEST_CASE("only the exit port's first byte is one, and only up to 4 bytes") {
  FakeMachine machine;
  const auto device = make_platform_device(debug_exit_kind, machine);
  CHECK(machine.out(0xf5, 1));
  CHECK(machine.out(0xf7, 1, 4));
  CHECK(machine.out(0xf4, 1, 8));
  CHECK_FALSE(machine.out(0xf3, 1));
  CHECK_FALSE(machine.out(0xf8, 1));
  CHECK(machine.control.exit_codes.empty());
}

TEST_CASE("the guest is not told of the exit port, and it goes with its device") {
  FakeMachine machine;
  auto device = make_platform_device(debug_exit_kind, machine);
  CHECK(device->acpi_node().empty());
  CHECK_FALSE(device->press_power_button());
  device.reset();
  CHECK_FALSE(machine.out(0xf4, 1));
}

}  // namespace hum::testing
