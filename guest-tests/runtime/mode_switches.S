// SPDX-License-Identifier: Apache-2.0
// From 64-bit mode to CPL 3, to protected mode without paging and to real mode.
.set page, 0xa000                   // real_mode_page in layout.h

.section .text.modes, "ax"
.globl enter_user, user_return, call_protected, call_real

// enter_user(rdi = function, rsi = its argument, rdx = stack, rcx = flags): the way back is an exception, when the
// function returns the one at user_return. (Not every KVM lets CPL 3 use int.)
.code64
enter_user:
    pushq $0x23
    pushq %rdx
    pushq %rcx
    pushq $0x2b
    pushq %rdi
    movq %rsi, %rdi
    iretq
user_return:
    ud2

// call_protected(rdi = code), call_real(): 64-bit mode, 32-bit compatibility mode, no paging.
call_real:
    movl $call_real32, %edi
call_protected:
    pushq %rbx
    pushq %rbp
    pushfq
    cli
    movl %edi, %ebx
    pushq $0x18
    pushq $1f
    lretq
.code32
1:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl $0xc0000080, %ecx          // EFER.LME
    rdmsr
    andl $~0x100, %eax
    wrmsr
    call *%ebx
    movl %eax, %ebx
    movl $1f, %edi
    jmp enter_long_mode
.code64
1:  movl %ebx, %eax
    popfq
    popq %rbp
    popq %rbx
    ret

.code32
call_real32:
    movl %esp, stack_before
    ljmp $0x30, $page
back_from_real:
    movl $0x10, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    movl %ecx, %ss
    movl stack_before, %esp
    ret

.section .rodata.modes, "a"
.globl real_mode_begin, real_mode_end
.code16
real_mode_begin:
    movw $0x38, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %cr0, %eax
    andl $~1, %eax
    movl %eax, %cr0
    ljmp $0, $page + (1f - real_mode_begin)
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $page, %sp
    call real_mode_end
    movl %cr0, %ecx
    orl $1, %ecx
    movl %ecx, %cr0
    ljmpl $0x18, $back_from_real
real_mode_end:                      // here comes the program's code

.section .bss.modes, "aw", @nobits
.balign 4
stack_before: .skip 4

.section .note.GNU-stack, "", @progbits
