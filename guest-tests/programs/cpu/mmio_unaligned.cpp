// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// Reads of registers in memory at odd addresses, and across the boundary of two pages: the host bridge's last
// registers, which are 0, and those of a function that is not there.
std::uint32_t guest_main(const BootInfo&) {
  const std::uint64_t mcfg = find_table("MCFG");
  check(1, mcfg != 0, "MCFG");
  const auto bridge = read<std::uint64_t>(mcfg + 44);
  const auto head = read<std::uint64_t>(bridge);
  for (unsigned offset = 1; offset < 4; ++offset) {
    check(2, read<std::uint32_t>(bridge + offset) == (head >> 8 * offset & 0xffffffff), "width 4, unaligned");
    check(3, read<std::uint16_t>(bridge + offset) == (head >> 8 * offset & 0xffff), "width 2, unaligned");
  }
  const std::uint64_t next = bridge + 0x1000;
  check(4, read<std::uint32_t>(next) == 0xffffffff, "no function 1");
  for (unsigned before = 1; before < 4; ++before) {
    const std::uint32_t ones = 0xffffffffu << 8 * before;
    check(5, read<std::uint32_t>(next - before) == ones, "width 4 across two pages");
  }
  for (unsigned before = 1; before < 8; ++before) {
    const std::uint64_t ones = ~std::uint64_t{0} << 8 * before;
    check(6, read<std::uint64_t>(next - before) == ones, "width 8 across two pages");
  }
  return 0;
}
