// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vmm/boot/boot_file.h"
#include "vmm/boot/memory_map.h"
#include "vmm/boot/segments.h"
#include "vmm/boot/table_area.h"

// The Multiboot Specification, version 0.6.96 ("multiboot 1").
namespace hum::boot {

inline constexpr std::size_t multiboot_search_size = 8192;
inline constexpr std::uint32_t multiboot_entry_magic = 0x2badb002;  // in eax

// The header of a multiboot image (3.1).
struct MultibootHeader {
  // How to load an image that is no ELF image, or not as its ELF headers say (flag 16).
  struct Addresses {
    std::uint32_t header = 0;
    std::uint32_t load = 0;
    std::uint32_t load_end = 0;  // 0: to the end of the file
    std::uint32_t bss_end = 0;   // 0: no BSS
    std::uint32_t entry = 0;
  };

  std::size_t offset = 0;  // in the file
  std::uint32_t flags = 0;
  std::optional<Addresses> addresses;

  // Searches the first bytes of a file, of which the first 8 KiB count.
  static std::optional<MultibootHeader> find(std::span<const std::byte> head);

  // Throws ConfigError if the image requires something of its loader that is not offered.
  void check_requirements(const BootFile& file) const;
  // What the address fields say to load; only if there are addresses.
  SegmentSet segments(const BootFile& file) const;
};

// What a multiboot kernel is told (3.3).
struct MultibootInfo {
  GuestAddress command_line;  // of a text whose first word is the image's name
  std::span<const LoadedModule> modules;
  MemoryMap memory_map;
};

// Writes it from low_memory::multiboot_info on; returns the address for ebx.
GuestAddress write_multiboot_info(const GuestMemory& memory, const MultibootInfo& contents);

}  // namespace hum::boot
