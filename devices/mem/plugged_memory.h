// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "vmm/base/log.h"
#include "vmm/base/state.h"
#include "vmm/memory/device_memory.h"

namespace hum {

// Guest memory in blocks that are plugged and unplugged one by one. What is not plugged takes no memory of
// the host, and other devices do not reach it; for the guest's processors it is out of reach in pieces of a
// slot: one with at least one plugged block is theirs as a whole. Any thread.
class PluggedMemory {
 public:
  // Bytes: total a multiple of slot_size, that of block_size, which is a power of two.
  struct Layout {
    std::uint64_t total = 0;
    std::uint64_t slot_size = 0;
    std::uint64_t block_size = 0;
  };
  struct Sizes {
    std::uint64_t usable = 0;  // where blocks may be plugged, from the beginning on
    std::uint64_t plugged = 0;
    std::uint64_t requested = 0;  // what the guest shall plug; never more is plugged than was requested
  };
  // With their numbers in a response (5.15.6).
  enum class Answer : std::uint16_t { done = 0, refused = 1, busy = 2, wrong = 3 };
  enum class State : std::uint16_t { plugged = 0, unplugged = 1, mixed = 2 };

  // region is of so many bytes in such blocks. Both references outlive this.
  PluggedMemory(const MemoryRegion& region, const Layout& layout, MemorySlots& slots, const Log& log);
  // All slots are gone then, the blocks are as they were.
  ~PluggedMemory();
  PluggedMemory(const PluggedMemory&) = delete;
  PluggedMemory& operator=(const PluggedMemory&) = delete;

  // The address and number of blocks may be any that a guest chose.
  Answer plug(GuestAddress address, std::uint64_t blocks);
  Answer unplug(GuestAddress address, std::uint64_t blocks);
  void unplug_all();
  // None: not a range of blocks.
  std::optional<State> state(GuestAddress address, std::uint64_t blocks) const;

  // A multiple of the block size, at most the total.
  void request(std::uint64_t size);

  const MemoryRegion& region() const { return region_; }
  const Layout& layout() const { return layout_; }
  Sizes sizes() const;

  // Visited while no request is served.
  void fields(StateVisitor& visitor);

 private:
  struct Run {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
  };
  std::optional<Run> run_of(GuestAddress address, std::uint64_t blocks) const;
  std::uint64_t usable_for(std::uint64_t requested) const;
  Run blocks_of(std::size_t slot) const;
  void map(std::size_t slot);
  void unmap(std::size_t slot);
  bool map_slots(Run run);
  void release(Run run);
  void discard(Run run);
  void take(const std::vector<std::uint8_t>& plugged);

  const MemoryRegion region_;
  const Layout layout_;
  MemorySlots& memory_slots_;
  const Log& log_;
  mutable std::mutex mutex_;  // guards all below, and the changes of the blocks
  Sizes sizes_;
  std::vector<std::optional<std::uint32_t>> slots_;  // those that the guest's processors have
  std::vector<std::uint8_t> saved_;                  // a byte for each block, for fields
  bool failure_told_ = false;
};

}  // namespace hum
