// SPDX-License-Identifier: Apache-2.0
// The smallest guest: its first instructions write 0 to the exit port. PVH and multiboot in 32-bit mode, Linux's
// 64-bit protocol too: the bytes mean the same in both modes.
.section .text.entry, "ax"
.globl image_entry, pvh_entry
.code32
image_entry:
pvh_entry:
    xorl %eax, %eax
    movl $0xf4, %edx
    outl %eax, %dx
1:  hlt
    jmp 1b

.section .note.GNU-stack, "", @progbits
