// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/modes.h"

using namespace guest;

// Writes 0x5a to byte 0x60 of the CMOS memory with one 16-bit port write, and reads it back into al; ah tells
// the low byte of CR0.
asm(R"(
.section .rodata.real_mode_code, "a"
.code16
real_mode_code:
    movw $0x5a60, %ax
    outw %ax, $0x70
    movb $0x60, %al
    outb %al, $0x70
    smsw %bx
    inb $0x71, %al
    movb %bl, %ah
    movzwl %ax, %eax
    ret
real_mode_code_end:
.code64
.text
)");

extern "C" {
extern const char real_mode_code[];
extern const char real_mode_code_end[];
}

// 16-bit code, reached from protected mode, uses ports in real mode and comes back, more than once.
std::uint32_t guest_main(const BootInfo&) {
  for (unsigned round = 0; round < 3; ++round) {
    const std::uint32_t result = run_real(real_mode_code, real_mode_code_end);
    check(1, (result >> 8 & 1) == 0, "CR0.PE is clear");
    check(2, (result & 0xff) == 0x5a, "what was written to a port is read back");
  }
  return 0;
}
