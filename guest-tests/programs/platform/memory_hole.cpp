// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"

using namespace guest;

namespace {

// Neither RAM nor a device: ones, whatever is written.
bool is_nothing(std::uint64_t address) {
  write<std::uint32_t>(address, 0);
  return read<std::uint32_t>(address) == 0xffffffff;
}

}  // namespace

// Behind the end of RAM, below 4 GiB and above, there is nothing; a word across that end is half RAM, half
// ones.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint64_t devices = 0xc0000000;  // from here on PCI may place them
  for (unsigned i = 0; i < boot.memory_count; ++i) {
    const MemoryRange& range = boot.memory[i];
    const std::uint64_t end = range.base + range.size;
    if (range.type != MemoryRange::ram || range.base == 0 || end == devices) continue;
    print("RAM ends at ", hex(end), "\n");
    check(1, is_nothing(end), "first word behind");
    check(2, is_nothing(end + 0xffc), "last word of the page behind");
    check(3, is_nothing(end + (2 << 20)), "2 MiB behind");
    write<std::uint32_t>(end - 4, 0x12345678);
    check(4, read<std::uint32_t>(end - 4) == 0x12345678, "last word of RAM");
    check(5, read<std::uint64_t>(end - 4) == 0xffffffff12345678, "a word across the end");
  }
  check(6, is_nothing(unbacked_address), "in the hole");
  check(7, is_nothing(1ull << 38), "far above");
  return 0;
}
