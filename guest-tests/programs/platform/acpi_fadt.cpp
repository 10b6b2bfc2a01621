// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The FADT of a hardware-reduced machine (ACPI 6.5, 5.2.9): what is there, and what a kernel must not look
// for.
std::uint32_t guest_main(const BootInfo&) {
  const std::uint64_t table = find_table("FACP");
  check(1, table != 0 && table_size(table) >= 276, "FADT of revision 6");
  const auto flags = read<std::uint32_t>(table + fadt::flags);
  check(2, (flags & fadt::hardware_reduced) != 0, "hardware-reduced");
  check(3, (flags & 1) != 0, "WBINVD works");
  check(4, (flags & 3 << 4) == 3 << 4, "no fixed power or sleep button");
  check(5, (flags & fadt::has_reset_register) != 0, "reset register");
  const auto boot_flags = read<std::uint16_t>(table + 109);
  constexpr std::uint16_t keyboard = 1 << 1, no_vga = 1 << 2, no_clock = 1 << 5;
  check(6, (boot_flags & no_vga) != 0, "no VGA");
  check(7, (boot_flags & keyboard) == 0, "no keyboard controller");
  check(8, (boot_flags & no_clock) == 0 && read<std::uint8_t>(table + 108) == 0x32,
        "CMOS clock with century");
  check(9, read<std::uint32_t>(table + 40) == read<std::uint64_t>(table + fadt::dsdt64),
        "both DSDT addresses");
  constexpr std::uint8_t port_space = 1;
  const std::uint32_t registers[] = {fadt::reset_register, fadt::sleep_control, fadt::sleep_status};
  for (const std::uint32_t offset : registers) {
    check(10, read_register(table + offset).space == port_space, "a register among the ports");
    check(11, read<std::uint8_t>(table + offset + 1) == 8, "of eight bits");
  }
  return 0;
}
