// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The multiboot memory map: entries of their own size that end where mmap_length says, ascending, and with
// ram=N (MiB) the RAM of the machine.
std::uint32_t guest_main(const BootInfo& boot) {
  const std::uint64_t begin = read<std::uint32_t>(boot.raw + 48);
  const std::uint64_t end = begin + read<std::uint32_t>(boot.raw + 44);
  std::uint64_t entry = begin;
  std::uint64_t above = 0;
  std::uint64_t ram = 0;
  while (entry < end) {
    check(1, read<std::uint32_t>(entry) >= 20, "size of an entry");
    const auto base = read<std::uint64_t>(entry + 4);
    const auto size = read<std::uint64_t>(entry + 12);
    check(2, base >= above, "the map ascends");
    above = base + size;
    if (read<std::uint32_t>(entry + 20) == MemoryRange::ram) ram += size;
    entry += read<std::uint32_t>(entry) + 4;
  }
  check(3, entry == end && begin != end, "the entries fill the map");
  check(4, (ram + 0xfffff) >> 20 == parse_number(boot.option("ram")), "amount of RAM");
  return 0;
}
