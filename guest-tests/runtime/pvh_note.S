// SPDX-License-Identifier: Apache-2.0
// The ELF note that makes an image bootable by PVH: XEN_ELFNOTE_PHYS32_ENTRY, the 32-bit entry point.
.section .note.Xen, "a", @note
.balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_entry

.section .note.GNU-stack, "", @progbits
