// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/memory/guest_address.h"

// Where the boot layer puts its structures in guest memory. No part of a kernel is loaded below `end`, but
// that of a multiboot kernel between the GDT and the multiboot information. The first page stays untouched:
// the word at 0x472 tells the machine how a guest was reset.
namespace hum::boot::low_memory {

inline constexpr GuestAddress gdt{0x1000};
inline constexpr GuestAddress start_info{0x2000};  // PVH: start info, memory map, modules
inline constexpr GuestAddress start_info_end{0x7000};
inline constexpr GuestAddress zero_page{0x7000};    // Linux boot_params
inline constexpr GuestAddress stack_top{0x9000};    // the page below it
inline constexpr GuestAddress page_tables{0x9000};  // PML4, PDPT, four page directories; to 0xefff
inline constexpr GuestAddress multiboot_info{0x10000};
inline constexpr GuestAddress multiboot_info_end{0x20000};
inline constexpr GuestAddress command_line{0x20000};
inline constexpr GuestAddress end{0x30000};

}  // namespace hum::boot::low_memory
