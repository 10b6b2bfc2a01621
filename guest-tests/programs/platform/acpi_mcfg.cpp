// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The MCFG's window: reserved in the memory map, for as many buses as the table says, and it shows each
// function that the configuration ports show.
std::uint32_t guest_main(const BootInfo& boot) {
  const std::uint64_t mcfg = find_table("MCFG");
  check(1, mcfg != 0 && table_size(mcfg) == 60, "MCFG with one window");
  const auto window = read<std::uint64_t>(mcfg + 44);
  check(2, read<std::uint16_t>(mcfg + 52) == 0 && read<std::uint8_t>(mcfg + 54) == 0, "segment 0, bus 0");
  const std::uint64_t buses = read<std::uint8_t>(mcfg + 55) + 1;
  bool reserved = false;
  for (unsigned i = 0; i < boot.memory_count; ++i) {
    const MemoryRange& range = boot.memory[i];
    reserved |= range.type != MemoryRange::ram && range.base <= window &&
                window + (buses << 20) <= range.base + range.size;
  }
  check(3, reserved, "the memory map reserves the whole window");
  unsigned found = 0;
  for (std::uint32_t device = 0; device < 32; ++device) {
    const auto by_memory = read<std::uint32_t>(window + (device << 15));
    out32(0xcf8, 0x80000000 | device << 11);
    check(4, in32(0xcfc) == by_memory, "ports and memory show the same");
    if (by_memory != 0xffffffff) ++found;
  }
  print(std::uint64_t{found}, " devices\n");
  check(5, found >= 1, "a host bridge");
  return 0;
}
