// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/segments.h"

namespace hum::boot {

bool is_elf(std::span<const std::byte> head);

// What an x86 ELF image says about how to load and enter it (System V ABI, chapters 4 and 5).
struct ElfImage {
  // Fills a span with the image's bytes from an offset on; throws what `file` says for a truncated image.
  using Read = std::function<void(std::uint64_t offset, std::span<std::byte> to)>;

  // The notes of one PT_NOTE segment.
  struct Notes {
    std::uint64_t file_offset;
    std::uint64_t alignment;
    std::vector<std::byte> bytes;
  };

  bool is_64 = false;
  std::uint64_t entry = 0;
  SegmentSet segments;
  std::vector<Notes> notes;  // sized, not yet read

  // Reads the headers. Everything in them is checked; errors are ConfigErrors of `file`.
  static ElfImage parse(const BootFile& file, std::uint64_t image_size, const Read& read);

  // The 32-bit entry point that a PVH note names (XEN_ELFNOTE_PHYS32_ENTRY), once the notes have been read.
  std::optional<std::uint32_t> pvh_entry(const BootFile& file) const;

  // True for a Linux of 64 bits, by the notes that it has had under its own name since 4.18. Its ELF entry
  // point is that of the 64-bit boot protocol. Once the notes have been read.
  bool is_linux_64() const;
};

}  // namespace hum::boot
