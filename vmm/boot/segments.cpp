// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/segments.h"

#include <algorithm>
#include <cstring>

#include "vmm/base/errors.h"
#include "vmm/base/options.h"
#include "vmm/boot/low_memory.h"
#include "vmm/boot/text.h"

namespace hum::boot {
namespace {

bool holds(std::uint64_t begin, std::uint64_t size, std::uint64_t value) {
  return value >= begin && value - begin < size;
}

[[noreturn]] void fail_to_place(const BootFile& file, const GuestMemory& memory, const FreeSpace& space,
                                const Segment& segment) {
  const std::uint64_t begin = segment.address.value;
  const std::uint64_t end = begin + segment.memory_size;
  if (end > space.low_end() && end <= low_ram_limit)
    throw ConfigError("memory", format_size(memory.size()),
                      "'" + file.path() + "' is loaded up to " + hexadecimal(end) + ", where no RAM is",
                      "give the guest at least " + format_memory(end));
  file.fail("it wants to be loaded to " + hexadecimal(begin) + " to " + hexadecimal(end) +
                ", which is not all free RAM",
            "link it at 1 MiB or above; below " + hexadecimal(low_memory::end.value) +
                " lie the boot structures and before 1 MiB the firmware's tables");
}

}  // namespace

void SegmentSet::add(const BootFile& file, std::uint64_t image_size, const Segment& segment) {
  if (segment.file_size > segment.memory_size)
    file.fail("it is damaged: a segment has more bytes in the file than in memory",
              "copy or download it again");
  if (segment.file_offset > image_size || segment.file_size > image_size - segment.file_offset)
    file.fail("it is truncated: a segment of " + std::to_string(segment.file_size) + " bytes at " +
                  hexadecimal(segment.file_offset) + " lies beyond its end (" + std::to_string(image_size) +
                  " bytes)",
              "copy or download it again");
  if (segment.memory_size > UINT64_MAX - segment.address.value)
    file.fail("it is damaged: a segment wraps around the address space", "copy or download it again");
  if (segment.memory_size != 0) segments_.push_back(segment);
}

void SegmentSet::place(const BootFile& file, const GuestMemory& memory, FreeSpace& space) {
  for (const Segment& segment : segments_)
    if (!space.is_free({segment.address, segment.memory_size})) fail_to_place(file, memory, space, segment);
  std::vector<iovec> parts;
  for (const Segment& segment : segments_) {
    if (!space.is_free({segment.address, segment.memory_size}))
      file.fail("it is damaged: two of its segments overlap in memory",
                "link it with segments that lie apart");
    space.take({segment.address, segment.memory_size});
    parts.clear();
    memory.for_write({segment.address, segment.file_size}, parts);
    std::uint64_t offset = segment.file_offset;
    for (const iovec& part : parts) {
      targets_.push_back({offset, {static_cast<std::byte*>(part.iov_base), part.iov_len}});
      offset += part.iov_len;
    }
  }
}

void SegmentSet::capture(std::uint64_t image_offset, std::span<std::byte> to) {
  targets_.push_back({image_offset, to});
}

void SegmentSet::read_from(const BootFile& file) const {
  for (const Target& target : targets_) file.read_at(target.image_offset, target.host);
}

void SegmentSet::deliver(std::uint64_t image_offset, std::span<const std::byte> piece) const {
  for (const Target& target : targets_) {
    const std::uint64_t begin = std::max(image_offset, target.image_offset);
    const std::uint64_t end = std::min(image_offset + piece.size(), target.image_offset + target.host.size());
    if (begin >= end) continue;
    const std::byte* from = piece.data() + (begin - image_offset);
    std::byte* to = target.host.data() + (begin - target.image_offset);
    if (from != to) std::memcpy(to, from, end - begin);
  }
}

std::span<std::byte> SegmentSet::place_for(std::uint64_t image_offset, std::uint64_t size) const {
  for (const Target& target : targets_) {
    if (image_offset < target.image_offset) continue;
    const std::uint64_t skipped = image_offset - target.image_offset;
    if (skipped <= target.host.size() && size <= target.host.size() - skipped)
      return target.host.subspan(skipped, size);
  }
  return {};
}

void SegmentSet::zero_rest(const GuestMemory& memory) const {
  for (const Segment& segment : segments_)
    memory.fill_zero({segment.address + segment.file_size, segment.memory_size - segment.file_size});
}

std::optional<GuestAddress> SegmentSet::locate(std::uint64_t entry) const {
  if (contains({entry})) return GuestAddress{entry};
  for (const Segment& segment : segments_)
    if (holds(segment.virtual_address, segment.memory_size, entry))
      return segment.address + (entry - segment.virtual_address);
  return std::nullopt;
}

bool SegmentSet::contains(GuestAddress address) const {
  return std::any_of(segments_.begin(), segments_.end(), [&](const Segment& segment) {
    return holds(segment.address.value, segment.memory_size, address.value);
  });
}

}  // namespace hum::boot
