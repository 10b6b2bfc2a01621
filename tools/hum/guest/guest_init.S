// SPDX-License-Identifier: Apache-2.0
// The guest's first process as bytes of this program. HUM_GUEST_INIT is the path of the executable.
        .section .rodata.hum_guest_init, "a"
        .balign 16
        .global hum_guest_init_begin
        .global hum_guest_init_end
hum_guest_init_begin:
        .incbin HUM_GUEST_INIT
hum_guest_init_end:
        .section .note.GNU-stack, "", @progbits
