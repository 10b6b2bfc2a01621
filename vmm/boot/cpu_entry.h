// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vmm/memory/cpu_entry.h"
#include "vmm/memory/guest_memory.h"

namespace hum::boot {

// Write the GDT (and the page tables) into low memory and return the entry state, registers still 0 but rip
// and rsp. 32-bit protected mode, paging off: as PVH and multiboot want it.
CpuEntry enter_protected(const GuestMemory& memory, std::uint64_t rip);
// Long mode with 2 MiB pages for the first 4 GiB: as the 64-bit Linux boot protocol wants it.
CpuEntry enter_long(const GuestMemory& memory, std::uint64_t rip);

}  // namespace hum::boot
