// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/free_space.h"

#include <algorithm>

#include "vmm/boot/low_memory.h"

namespace hum::boot {
namespace {

constexpr std::uint64_t four_gib = std::uint64_t{4} << 30;

std::uint64_t end_of(const GuestRange& range) {
  return range.begin.value + range.size;
}

}  // namespace

FreeSpace::FreeSpace(MemoryMap map, const GuestMemory& memory) {
  for (const MemoryMapEntry& entry : map) {
    if (entry.type != MemoryType::usable) continue;
    for (const MemoryRegion& region : memory.regions()) {
      const std::uint64_t begin = std::max(entry.range.begin.value, region.range.begin.value);
      const std::uint64_t end = std::min(end_of(entry.range), end_of(region.range));
      if (begin >= end) continue;
      if (!free_.empty() && end_of(free_.back()) == begin)
        free_.back().size += end - begin;
      else
        free_.push_back({{begin}, end - begin});
      if (begin < four_gib) low_end_ = std::min(end, four_gib);
    }
  }
  take({{0}, low_memory::end.value});
}

bool FreeSpace::is_free(GuestRange range) const {
  if (range.size == 0) return true;
  return std::any_of(free_.begin(), free_.end(), [&](const GuestRange& each) {
    const std::uint64_t offset = range.begin.value - each.begin.value;
    return range.begin >= each.begin && offset < each.size && range.size <= each.size - offset;
  });
}

void FreeSpace::take(GuestRange range) {
  if (range.size == 0) return;
  std::vector<GuestRange> left;
  for (const GuestRange& each : free_) {
    if (end_of(range) <= each.begin.value || range.begin.value >= end_of(each)) {
      left.push_back(each);
      continue;
    }
    if (range.begin > each.begin) left.push_back({each.begin, range.begin.value - each.begin.value});
    if (end_of(range) < end_of(each)) left.push_back({{end_of(range)}, end_of(each) - end_of(range)});
  }
  free_ = std::move(left);
  taken_end_ = std::max(taken_end_, end_of(range));
}

void FreeSpace::give_low_memory_to_multiboot() {
  const std::uint64_t begin = low_memory::start_info.value;
  free_.insert(free_.begin(), {{begin}, low_memory::multiboot_info.value - begin});
}

std::optional<GuestAddress> FreeSpace::highest(std::uint64_t size, std::uint64_t alignment,
                                               std::uint64_t limit) const {
  for (auto each = free_.rbegin(); each != free_.rend(); ++each) {
    const std::uint64_t end = std::min(end_of(*each), limit);
    if (end <= each->begin.value || end - each->begin.value < size) continue;
    const std::uint64_t begin = (end - size) & ~(alignment - 1);
    if (begin >= each->begin.value) return GuestAddress{begin};
  }
  return std::nullopt;
}

std::optional<GuestAddress> FreeSpace::lowest(std::uint64_t size, std::uint64_t alignment,
                                              std::uint64_t from) const {
  for (const GuestRange& each : free_) {
    const std::uint64_t least = std::max(each.begin.value, from);
    const std::uint64_t begin = (least + (alignment - 1)) & ~(alignment - 1);
    if (begin >= least && begin < end_of(each) && end_of(each) - begin >= size) return GuestAddress{begin};
  }
  return std::nullopt;
}

}  // namespace hum::boot
