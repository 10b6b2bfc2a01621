// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace hum {

// The registers of a vCPU that has stopped, by their names, for people and programs that look at what a guest
// was doing.
struct CpuRegisters {
  struct Value {
    std::string_view name;
    std::uint64_t value = 0;
  };
  struct Segment {
    std::string_view name;
    std::uint16_t selector = 0;
    std::uint64_t base = 0;
    std::uint32_t limit = 0;
    std::uint16_t attributes =
        0;  // as in a descriptor's bits 40 to 55, without the limit (Intel SDM 3, 3.4.5)
  };
  struct Table {
    std::string_view name;
    std::uint64_t base = 0;
    std::uint16_t limit = 0;
  };

  std::uint64_t instruction_pointer = 0;
  std::array<Value, 18> general;  // rax to r15, rip, rflags
  std::array<Value, 7> control;   // cr0, cr2, cr3, cr4, cr8, efer, apic_base
  std::array<Segment, 8> segments;
  std::array<Table, 2> tables;
};

}  // namespace hum
