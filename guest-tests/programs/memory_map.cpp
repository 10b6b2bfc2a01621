// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

namespace {

// The byte holds what is written, and what was there comes back.
bool holds(std::uint64_t address) {
  const auto before = read<std::uint8_t>(address);
  const auto inverted = static_cast<std::uint8_t>(~before);
  write(address, inverted);
  const bool ok = read<std::uint8_t>(address) == inverted;
  write(address, before);
  return ok && read<std::uint8_t>(address) == before;
}

}  // namespace

// The first and the last byte of each range of RAM are RAM, ranges do not overlap, and their sum is memory=N
// (MiB, of which up to 1 MiB may be missing).
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, boot.memory_count > 0, "memory map");
  std::uint64_t ram = 0;
  for (unsigned i = 0; i < boot.memory_count; ++i) {
    const MemoryRange& range = boot.memory[i];
    print(hex(range.base, 9), " + ", hex(range.size, 9), " type ", std::uint64_t{range.type}, "\n");
    check(2, range.size > 0, "no range is empty");
    for (unsigned j = 0; j < i; ++j) {
      const MemoryRange& other = boot.memory[j];
      const bool apart = range.base >= other.base + other.size || other.base >= range.base + range.size;
      check(3, apart, "ranges do not overlap");
    }
    if (range.type != MemoryRange::ram) continue;
    ram += range.size;
    check(4, holds(range.base == 0 ? 1 : range.base), "first byte of a range");
    check(5, holds(range.base + range.size - 1), "last byte of a range");
  }
  const std::uint64_t expected = parse_number(boot.option("memory")) << 20;
  if (expected != 0) check(6, ram <= expected && ram + (1 << 20) >= expected, "amount of RAM");
  if (boot.option("high") == "yes") {
    bool high = false;
    for (unsigned i = 0; i < boot.memory_count; ++i)
      high |= boot.memory[i].type == MemoryRange::ram && boot.memory[i].base >= 1ull << 32;
    check(7, high, "RAM above 4 GiB");
  }
  return 0;
}
