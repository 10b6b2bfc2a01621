// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vmm/memory/guest_address.h"

namespace hum {

// The state in which a guest's first vCPU starts, as the boot protocols want it; every other general register
// is 0, interrupts are off, the IDT is empty (limit 0) and LDTR is unusable. Segments are flat: base 0, limit
// 4 GiB, present, accessed, CPL 0. CS is code_selector, execute/read, 64-bit (L=1, D=0) in long64 and 32-bit
// (L=0, D=1) otherwise; DS, ES, FS, GS and SS are data_selector, read/write; TR is task_selector, a busy TSS
// with base 0 and limit 0x67. The GDT in guest memory says the same.
struct CpuEntry {
  enum class Mode : std::uint8_t { protected32, long64 };

  static constexpr std::uint16_t code_selector = 0x10;
  static constexpr std::uint16_t data_selector = 0x18;
  static constexpr std::uint16_t task_selector = 0x20;

  Mode mode = Mode::protected32;
  std::uint64_t rip = 0;
  std::uint64_t rsp = 0;
  std::uint64_t rflags = 2;
  std::uint64_t rax = 0;
  std::uint64_t rbx = 0;
  std::uint64_t rsi = 0;
  std::uint64_t cr0 = 0;
  std::uint64_t cr3 = 0;  // page tables that map the first 4 GiB one to one; 0 in protected32
  std::uint64_t cr4 = 0;
  std::uint64_t efer = 0;
  GuestAddress gdt = {};
  std::uint16_t gdt_limit = 0;
};

}  // namespace hum
