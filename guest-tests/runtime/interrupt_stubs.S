// SPDX-License-Identifier: Apache-2.0
// One stub of 16 bytes for each of the vectors 0 to 63: error code (or 0) and vector on the stack, then
// handle_interrupt(frame).
.section .text.stubs, "ax"
.code64
.globl interrupt_stubs
.balign 16
interrupt_stubs:
.set vector, 0
.rept 64
    .balign 16
    // Vectors with an error code: 8, 10 to 14, 17, 21, 29, 30.
    .if ((0x60227d00 >> vector) & 1) == 0
    pushq $0
    .endif
    pushq $vector
    jmp common
    .set vector, vector + 1
.endr

.balign 16
common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    movq %rsp, %rdi
    // The processor aligned the stack; 5 + 2 + 9 words keep it so.
    call handle_interrupt
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

// guarded_call(rdi = function, rsi = its argument): handle_interrupt leaves at guarded_call_end with rsp =
// guarded_stack if there is an exception.
.globl guarded_call, guarded_call_end
guarded_call:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $8, %rsp
    movq %rsp, guarded_stack
    movq %rdi, %rax
    movq %rsi, %rdi
    call *%rax
guarded_call_end:
    movq $0, guarded_stack
    addq $8, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

.section .note.GNU-stack, "", @progbits
