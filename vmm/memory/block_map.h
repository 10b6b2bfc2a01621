// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace hum {

// Which blocks of a piece of memory are there for the guest. One thread at a time changes it, any thread
// looks at any time.
class BlockMap {
 public:
  // None is there. Both in bytes; block_size is a power of two, size a multiple of it.
  BlockMap(std::uint64_t size, std::uint64_t block_size)
      : shift_(static_cast<unsigned>(std::countr_zero(block_size))),
        count_(size >> shift_),
        words_(std::make_unique<std::atomic<std::uint64_t>[]>((count_ + 63) / 64)) {}

  std::uint64_t block_size() const { return std::uint64_t{1} << shift_; }
  std::uint64_t count() const { return count_; }

  bool has(std::uint64_t block) const {
    return ((words_[block / 64].load(std::memory_order_acquire) >> (block % 64)) & 1) != 0;
  }
  // How many of so many blocks are there.
  std::uint64_t count_in(std::uint64_t first, std::uint64_t count) const {
    std::uint64_t found = 0;
    for (std::uint64_t block = first; block < first + count; ++block) found += has(block) ? 1u : 0u;
    return found;
  }
  void set(std::uint64_t first, std::uint64_t count, bool there) {
    for (std::uint64_t block = first; block < first + count; ++block) {
      const std::uint64_t bit = std::uint64_t{1} << (block % 64);
      if (there)
        words_[block / 64].fetch_or(bit, std::memory_order_release);
      else
        words_[block / 64].fetch_and(~bit, std::memory_order_release);
    }
  }

  // How many bytes are there in one piece from the offset on, at most so many. The offset is inside.
  std::uint64_t extent(std::uint64_t offset, std::uint64_t most) const {
    std::uint64_t end = offset;
    while (end - offset < most && (end >> shift_) < count_ && has(end >> shift_))
      end = ((end >> shift_) + 1) << shift_;
    return std::min(end - offset, most);
  }

 private:
  unsigned shift_;
  std::uint64_t count_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> words_;
};

}  // namespace hum
