// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/device_memory.h"

#include "vmm/base/errors.h"

namespace hum {

MemoryRegion DeviceMemory::place(const Request& request, const std::function<HostMemory()>& map) {
  if (closed_)
    throw ConfigError(request.key, request.value, "memory cannot be added while the VM runs",
                      "give the device before the start");
  const std::span<const MemoryRegion> there = memory_.device_regions();
  if (placed_ < there.size()) return adopt(request, there[placed_]);
  const std::uint64_t begin = (next_.value + request.alignment - 1) & ~(request.alignment - 1);
  if (begin < next_.value || begin >= end_.value || request.size > end_.value - begin)
    throw ConfigError(request.key, request.value,
                      "the guest's processor has no addresses left for it, which end at " +
                          std::to_string(end_.value >> 30) + " GiB",
                      "give the guest less memory or smaller devices");
  const MemoryRegion region =
      memory_.add({{begin}, request.size}, map(), request.writable, request.block_size);
  next_ = {begin + request.size};
  ++placed_;
  return region;
}

MemoryRegion DeviceMemory::adopt(const Request& request, const MemoryRegion& region) {
  const std::uint64_t block_size = region.blocks == nullptr ? 0 : region.blocks->block_size();
  if (region.range.size != request.size || region.range.begin.value % request.alignment != 0 ||
      region.writable != request.writable || block_size != request.block_size)
    throw ConfigError(request.key, request.value, "is not what the machine had that is to go on",
                      "give the same");
  next_ = region.range.begin + region.range.size;
  ++placed_;
  return region;
}

void DeviceMemory::give_back(GuestRange range) {
  if (memory_.remove(range)) --placed_;
}

}  // namespace hum
