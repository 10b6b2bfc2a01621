// SPDX-License-Identifier: Apache-2.0
// The multiboot (version 1) header. Asks for page-aligned modules and memory information, and gives the addresses that
// a loader of 32-bit images needs for this 64-bit ELF file.
.set flags, 0x10003
.section .multiboot, "a"
.balign 4
multiboot_header:
    .long 0x1badb002
    .long flags
    .long -(0x1badb002 + flags)
    .long multiboot_header
    .long image_start
    .long image_data_end
    .long image_end
    .long image_entry

.section .note.GNU-stack, "", @progbits
