// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/device_memory.h"

#include <algorithm>
#include <vector>

#include "vmm/base/errors.h"

namespace hum {

MemoryRegion DeviceMemory::place(const Request& request, const std::function<HostMemory()>& map) {
  if (closed_)
    throw ConfigError(request.key, request.value, "memory cannot be added while the VM runs",
                      "give the device before the start");
  const std::span<const MemoryRegion> there = memory_.device_regions();
  if (placed_ < there.size()) return adopt(request, there[placed_]);
  const GuestRange range{free_place(request), request.size};
  const MemoryRegion region = memory_.add(range, map(), request.writable, request.block_size);
  ++placed_;
  return region;
}

GuestAddress DeviceMemory::free_place(const Request& request) const {
  std::vector<GuestRange> taken;
  for (const MemoryRegion& each : memory_.device_regions()) taken.push_back(each.range);
  std::sort(taken.begin(), taken.end(),
            [](const GuestRange& one, const GuestRange& other) { return one.begin < other.begin; });
  GuestAddress begin = first_;
  const auto align = [&] { begin.value = (begin.value + request.alignment - 1) & ~(request.alignment - 1); };
  align();
  for (const GuestRange& each : taken) {
    if (begin < each.begin && request.size <= each.begin.value - begin.value) break;
    begin = std::max(begin, each.begin + each.size);
    align();
  }
  if (begin < first_ || begin.value >= end_.value || request.size > end_.value - begin.value)
    throw ConfigError(request.key, request.value,
                      "the guest's processor has no addresses left for it, which end at " +
                          std::to_string(end_.value >> 30) + " GiB",
                      "give the guest less memory or smaller devices");
  return begin;
}

MemoryRegion DeviceMemory::adopt(const Request& request, const MemoryRegion& region) {
  const std::uint64_t block_size = region.blocks == nullptr ? 0 : region.blocks->block_size();
  if (region.range.size != request.size || region.range.begin.value % request.alignment != 0 ||
      region.writable != request.writable || block_size != request.block_size)
    throw ConfigError(request.key, request.value, "is not what the machine had that is to go on",
                      "give the same");
  ++placed_;
  return region;
}

void DeviceMemory::give_back(GuestRange range) {
  if (memory_.remove(range)) --placed_;
}

}  // namespace hum
