// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/layout.h"

#include <algorithm>

namespace hum::layout {

std::vector<GuestRange> ram_ranges(std::uint64_t size) {
  std::vector<GuestRange> ranges = {{{0}, std::min(size, low_ram_limit)}};
  if (size > low_ram_limit) ranges.push_back({{high_ram_begin}, size - low_ram_limit});
  return ranges;
}

GuestAddress device_memory_begin(std::uint64_t size) {
  return {high_ram_begin + (size > low_ram_limit ? size - low_ram_limit : 0)};
}

std::vector<MemoryMapEntry> memory_map(std::uint64_t size, bool ecam) {
  // Between the end of low memory and 1 MiB are the places of the EBDA, the display and the BIOS, where the
  // ACPI tables are.
  std::vector<MemoryMapEntry> map = {
      {{{0}, low_usable_end}, MemoryType::usable},
      {{{low_usable_end}, mib - low_usable_end}, MemoryType::reserved},
      {{{mib}, std::min(size, low_ram_limit) - mib}, MemoryType::usable},
  };
  if (ecam) map.push_back({{{ecam_begin}, ecam_size}, MemoryType::reserved});
  if (size > low_ram_limit) map.push_back({{{high_ram_begin}, size - low_ram_limit}, MemoryType::usable});
  return map;
}

}  // namespace hum::layout
