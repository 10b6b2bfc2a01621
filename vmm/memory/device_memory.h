// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "vmm/memory/guest_memory.h"
#include "vmm/memory/memory_slots.h"

namespace hum {

// Where devices put the memory that they bring: above RAM, at the lowest addresses that are free, and not in
// the guest's memory map. Places are taken before the guest runs, or while it stands still and no device is
// at work, by the thread that makes the machine.
class DeviceMemory {
 public:
  // first: the lowest guest address that is free. Both references outlive this.
  DeviceMemory(GuestMemory& memory, MemorySlots& slots, GuestAddress first)
      : memory_(memory), slots_(slots), first_(first) {}

  // What the guest's processor can address.
  void limit(unsigned address_bits) { end_ = {std::uint64_t{1} << address_bits}; }

  struct Request {
    std::string key{};  // of the option that asks, and its value, for errors
    std::string value{};
    std::uint64_t size = 0;       // bytes; a multiple of the host's page
    std::uint64_t alignment = 0;  // of the guest address; a power of two
    bool writable = true;
    std::uint64_t block_size = 0;  // see GuestMemory::add
  };
  // Takes a place, and adds what map makes to guest memory; what a predecessor of the machine has left there
  // stays in its place. The guest sees none of it until it has a slot. Throws ConfigError: there is no room,
  // or it is too late; and what map throws.
  MemoryRegion place(const Request& request, const std::function<HostMemory()>& map);

  // The end of a place whose slots are gone, by the same thread and while nobody uses guest memory. Nothing
  // if the memory was handed over to another machine.
  void give_back(GuestRange range);

  // For the life of the machine, from any thread.
  MemorySlots& slots() const { return slots_; }

  // The guest is about to run, or stands still: places can be taken no more, or again.
  void close() { closed_ = true; }
  void open() { closed_ = false; }

 private:
  MemoryRegion adopt(const Request& request, const MemoryRegion& region);
  GuestAddress free_place(const Request& request) const;

  GuestMemory& memory_;
  MemorySlots& slots_;
  const GuestAddress first_;
  GuestAddress end_{std::uint64_t{1} << 52};  // the most that there is
  std::size_t placed_ = 0;
  bool closed_ = false;
};

}  // namespace hum
