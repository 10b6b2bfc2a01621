// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/layout.h"
#include "guest-tests/runtime/modes.h"

using namespace guest;

// Reads the I/O APIC's version register by its physical address; 0 if paging is on.
asm(R"(
.section .text.protected_mode_code, "ax"
.code32
protected_mode_code:
    xorl %eax, %eax
    movl %cr0, %ecx
    testl %ecx, %ecx
    js 1f
    movl $1, 0xfec00000
    movl 0xfec00010, %eax
1:  ret
.code64
.text
)");

extern "C" const char protected_mode_code[];

// 32-bit code without paging reaches a device's registers by their physical address, and long mode goes on.
std::uint32_t guest_main(const BootInfo&) {
  static_assert(io_apic_base == 0xfec00000);
  for (unsigned round = 0; round < 3; ++round) {
    const std::uint32_t version = run_protected(protected_mode_code);
    print("version register ", hex(version), "\n");
    check(1, (version & 0xff) >= 0x10 && (version & 0xff) < 0x30, "version of the I/O APIC");
  }
  return 0;
}
