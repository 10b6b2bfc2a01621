// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace guest {

// Code for another mode of the processor, written in an asm statement outside of functions between two
// labels. It is called near with interrupts off, ends with ret and leaves its result in eax; it may change
// eax, ebx, ecx, edx, esi and edi. No exception is handled meanwhile.

// 32-bit code in protected mode without paging: flat segments, physical addresses.
std::uint32_t run_protected(const char* code);

// 16-bit code in real mode, copied below 64 KiB: all segment registers are 0 but cs, where it does not matter
// where it lies as long as it jumps relatively.
std::uint32_t run_real(const char* begin, const char* end);

}  // namespace guest
