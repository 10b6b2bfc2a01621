// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/boot/memory_map.h"
#include "vmm/memory/guest_memory.h"

namespace hum::boot {

// What a loader tells Linux in struct boot_params (Linux, Documentation/arch/x86/zero-page.rst).
struct ZeroPage {
  std::span<const std::byte> setup_header;  // of a bzImage; empty: a minimal one for a bare ELF image
  std::uint64_t kernel_address = 0;         // where the image was loaded; 0: not told
  GuestAddress command_line;
  GuestRange initrd;  // size 0: none
  std::uint64_t acpi_rsdp = 0;
  MemoryMap memory_map;  // at most memory_map_capacity entries
};

// Writes it to low_memory::zero_page.
void write_zero_page(const GuestMemory& memory, const ZeroPage& contents);

}  // namespace hum::boot
