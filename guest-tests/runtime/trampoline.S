// SPDX-License-Identifier: Apache-2.0
// Where a processor starts after its start-up IPI: copied to the page 0x8000 (layout.h), runs there in real mode with
// cs:ip = 0x0800:0.
.set page, 0x8000
.section .rodata.trampoline, "a"
.globl trampoline_begin, trampoline_end
.code16
trampoline_begin:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl page + (gdt_pointer - trampoline_begin)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x18, $processor_start32
.balign 8
gdt_pointer:
    .word 31
    .long 0                         // filled in by start_processors
trampoline_end:
.globl trampoline_gdt
.set trampoline_gdt, gdt_pointer + 2

.section .text.processor, "ax"
.code32
processor_start32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    cld
    movl $1, %ebx
    lock xaddl %ebx, processors_begun
    movl %ebx, %esp
    incl %esp
    shll $12, %esp                  // 4 KiB of stack each
    addl $processor_stacks, %esp
    movl $processor_start64, %edi
    jmp enter_long_mode
.code64
processor_start64:
    movl %ebx, %edi
    call processor_main
1:  hlt
    jmp 1b

.section .note.GNU-stack, "", @progbits
