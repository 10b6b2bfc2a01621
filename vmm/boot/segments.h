// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/free_space.h"

namespace hum::boot {

// A part of an image that belongs at one place in guest memory: file_size bytes of the image from file_offset
// on, then zeros up to memory_size.
struct Segment {
  std::uint64_t file_offset = 0;
  std::uint64_t file_size = 0;
  GuestAddress address;
  std::uint64_t memory_size = 0;
  std::uint64_t virtual_address = 0;
};

// The segments of one image. First add them all, then place them, then bring in the bytes: from a file or
// piece by piece as they come out of a decompressor.
class SegmentSet {
 public:
  // Checks sizes and wraps; image_size bounds the part in the image. Errors are those of `file`.
  void add(const BootFile& file, std::uint64_t image_size, const Segment& segment);
  bool empty() const { return segments_.empty(); }

  // Takes the RAM for all segments out of space, or throws ConfigError: "memory" where more memory would do,
  // else the file's.
  void place(const BootFile& file, const GuestMemory& memory, FreeSpace& space);
  // Has these bytes of the image copied to `to` as well, which must stay where it is.
  void capture(std::uint64_t image_offset, std::span<std::byte> to);

  void read_from(const BootFile& file) const;
  void deliver(std::uint64_t image_offset, std::span<const std::byte> piece) const;
  // Where bytes of the image may be produced in place, if all of them belong to one segment; else empty. They
  // are to be delivered nonetheless.
  std::span<std::byte> place_for(std::uint64_t image_offset, std::uint64_t size) const;
  void zero_rest(const GuestMemory& memory) const;

  // The physical address of an entry point that may be given as a virtual one; nothing if no segment holds
  // it.
  std::optional<GuestAddress> locate(std::uint64_t entry) const;
  bool contains(GuestAddress address) const;

 private:
  struct Target {
    std::uint64_t image_offset;
    std::span<std::byte> host;
  };

  std::vector<Segment> segments_;
  std::vector<Target> targets_;
};

}  // namespace hum::boot
