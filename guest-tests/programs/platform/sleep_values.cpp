// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The sleep control register: only S5 with the enable bit switches the machine off; the status register reads
// 0, and takes what clears it.
std::uint32_t guest_main(const BootInfo&) {
  const std::uint64_t table = find_table("FACP");
  check(1, table != 0, "FADT");
  const AcpiRegister control = read_register(table + fadt::sleep_control);
  const AcpiRegister status = read_register(table + fadt::sleep_status);
  check(2, control && status, "sleep registers");
  constexpr std::uint8_t enable = 1 << 5, wake = 1 << 7;
  for (std::uint8_t type = 0; type < 8; ++type)
    write_register(control, static_cast<std::uint8_t>(type << 2 | (type < 5 ? enable : 0)));
  write_register(status, wake);
  check(3, in8(static_cast<std::uint16_t>(status.address)) == 0, "no wake-up");
  return 0;
}
