// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vmm/boot/memory_map.h"
#include "vmm/memory/guest_memory.h"

namespace hum::boot {

// The usable RAM that nothing has been loaded to yet; without the boot layer's own low memory, as far as the
// protocol needs it.
class FreeSpace {
 public:
  FreeSpace(MemoryMap map, const GuestMemory& memory);

  // True if every byte is free. An empty range is.
  bool is_free(GuestRange range) const;
  void take(GuestRange range);
  // Multiboot needs neither the structures of the other protocols nor a stack or page tables: kernels may lie
  // there. Once, before anything is taken.
  void give_low_memory_to_multiboot();

  // An address for size bytes (not 0), aligned to a power of two, all of it below `limit` or from `from` on.
  std::optional<GuestAddress> highest(std::uint64_t size, std::uint64_t alignment, std::uint64_t limit) const;
  std::optional<GuestAddress> lowest(std::uint64_t size, std::uint64_t alignment, std::uint64_t from) const;

  // The end of the highest range taken.
  std::uint64_t taken_end() const { return taken_end_; }
  // The end of RAM below 4 GiB.
  std::uint64_t low_end() const { return low_end_; }

 private:
  std::vector<GuestRange> free_;  // ascending, apart, none empty
  std::uint64_t taken_end_ = 0;
  std::uint64_t low_end_ = 0;
};

}  // namespace hum::boot
