// SPDX-License-Identifier: Apache-2.0
// From the boot protocol's state to 64-bit C++ with own page tables, descriptor tables and stack. Three ways in:
// pvh_entry (32-bit, ebx = hvm_start_info), image_entry from a multiboot loader (32-bit, ebx = multiboot
// information) and image_entry from a Linux 64-bit loader (rsi = zero page).

.set protocol_pvh, 1
.set protocol_multiboot, 2
.set protocol_linux64, 3
.set page_present_write, 3
.set page_table, 7                  // whether a program at CPL 3 may use a page is said by its own entry
.set page_large, 0x80

// Maps the first 2 MiB, where the image is; paging.cpp maps the rest as it is touched. The same in 32-bit and 64-bit
// mode, on tables that are zero.
.macro prepare_page_tables
    movl $page_directory_pointers + page_table, page_map
    movl $first_directory + page_table, page_directory_pointers
    movl $page_present_write + page_large, first_directory
.endm

// Keeps the registers at entry for the program (EntryState in boot_info.h) and sets the stack. p is e in 32-bit code
// and r in 64-bit code; ax, cx and dx are lost.
.macro save_entry_state p
    mov %\p\()ax, entry_state
    mov %\p\()bx, entry_state + 8
    mov %\p\()si, entry_state + 16
    mov %\p\()sp, entry_state + 24
    mov $boot_stack_top, %\p\()sp
    pushf
    pop %\p\()ax
    mov %\p\()ax, entry_state + 32
    mov %cr0, %\p\()ax
    mov %\p\()ax, entry_state + 40
    mov %cr3, %\p\()ax
    mov %\p\()ax, entry_state + 48
    mov %cr4, %\p\()ax
    mov %\p\()ax, entry_state + 56
    movl $0xc0000080, %ecx          // EFER
    rdmsr
    movl %eax, entry_state + 64
    movw %cs, entry_state + 72
    movw %ds, entry_state + 74
    movw %es, entry_state + 76
    movw %ss, entry_state + 78
    sgdt entry_state + 80
.endm

.section .text.entry, "ax"
.globl pvh_entry, image_entry, enter_long_mode, boot_gdt_pointer

.code32
// The first three instructions tell the mode they run in: 41 85 c9 is inc ecx; test ecx,ecx in 32-bit code, and
// test r9d,ecx in 64-bit code.
image_entry:
    xorl %ecx, %ecx
    .byte 0x41, 0x85, 0xc9
    jnz multiboot_entry

.code64
    cld
    save_entry_state r
    prepare_page_tables
    movq $page_map, %rax
    movq %rax, %cr3
    lgdt boot_gdt_pointer
    movl $protocol_linux64, boot_protocol
    pushq $0x08
    pushq $boot64
    lretq

.code32
multiboot_entry:
    movl $protocol_multiboot, boot_protocol
    jmp start32
pvh_entry:
    movl $protocol_pvh, boot_protocol
start32:
    cld
    save_entry_state e
    prepare_page_tables
    movl $boot64, %edi

// Flat 32-bit protected mode, esp = stack, edi = where to go on in 64-bit mode.
enter_long_mode:
    lgdt boot_gdt_pointer
    movl %cr4, %eax
    orl $0x20, %eax                 // PAE
    movl %eax, %cr4
    movl $page_map, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          // EFER.LME
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax           // PG, PE
    movl %eax, %cr0
    ljmp $0x08, $1f
.code64
1:  movl %edi, %edi
    movl %esp, %esp
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    jmp *%rdi

boot64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    call boot_main
1:  hlt
    jmp 1b

.section .data.boot, "aw"
.balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        // 0x08: 64-bit code
    .quad 0x00cf93000000ffff        // 0x10: data
    .quad 0x00cf9b000000ffff        // 0x18: 32-bit code
    .quad 0x00cff3000000ffff        // 0x20: data at CPL 3
    .quad 0x00affb000000ffff        // 0x28: 64-bit code at CPL 3
    .quad 0x00009b000000ffff        // 0x30: 16-bit code
    .quad 0x000093000000ffff        // 0x38: 16-bit data
task_descriptor:
    .quad 0, 0                      // 0x40: task state segment, filled in by user_mode.cpp
boot_gdt_pointer:
    .word . - gdt - 1
    .quad gdt
.globl boot_protocol, entry_state, task_descriptor
.balign 8
entry_state: .skip 96
boot_protocol: .long 0

.section .bss, "aw", @nobits
.balign 4096
.globl page_directory_pointers
page_map: .skip 4096
page_directory_pointers: .skip 4096
first_directory: .skip 4096
.skip 16384
boot_stack_top:

.section .note.GNU-stack, "", @progbits
