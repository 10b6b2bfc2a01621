// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "vmm/boot/memory_map.h"
#include "vmm/boot/table_area.h"
#include "vmm/memory/guest_memory.h"

namespace hum::boot {

// What a PVH guest is told (Xen's public arch-x86/hvm/start_info.h, version 1).
struct StartInfo {
  GuestAddress command_line;
  std::span<const LoadedModule> modules;  // the initrd is the first
  std::uint64_t acpi_rsdp = 0;
  MemoryMap memory_map;
};

// Writes it below low_memory::start_info_end; returns the address for ebx.
GuestAddress write_start_info(const GuestMemory& memory, const StartInfo& contents);

}  // namespace hum::boot
