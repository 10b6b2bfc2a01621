// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The reset register resets with the FADT's value alone.
std::uint32_t guest_main(const BootInfo&) {
  const std::uint64_t table = find_table("FACP");
  check(1, table != 0, "FADT");
  const auto value = read<std::uint8_t>(table + fadt::reset_value);
  for (unsigned other = 0; other < 256; other += 3) {
    if (other != value)
      write_register(read_register(table + fadt::reset_register), static_cast<std::uint8_t>(other));
  }
  return 0;
}
