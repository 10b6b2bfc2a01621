// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/text.h"

namespace guest {

enum class BootProtocol : std::uint32_t { pvh = 1, multiboot = 2, linux64 = 3 };

struct MemoryRange {
  static constexpr std::uint32_t ram = 1;  // e820 types, which all three protocols use

  std::uint64_t base;
  std::uint64_t size;
  std::uint32_t type;
};

struct BootModule {
  std::uint64_t address;
  std::uint64_t size;
  Text command_line;
};

// The processor's registers at the entry point, zero-extended where that is in 32-bit mode. entry.S has the
// same offsets.
struct EntryState {
  std::uint64_t rax, rbx, rsi, rsp, rflags;
  std::uint64_t cr0, cr3, cr4, efer;
  std::uint16_t cs, ds, es, ss;
  std::uint16_t gdt_limit, gdt_base[4];  // a 32-bit sgdt fills two words of the base
};

// What the loader told, whatever the protocol. Copied before guest_main runs.
struct BootInfo {
  static constexpr unsigned max_ranges = 32;
  static constexpr unsigned max_modules = 4;

  BootProtocol protocol;
  EntryState entry;
  std::uint64_t raw;   // address of the protocol's own structure
  std::uint64_t rsdp;  // 0: not told
  char text[4096];     // behind command_line
  Text command_line;
  MemoryRange memory[max_ranges];
  unsigned memory_count;
  BootModule modules[max_modules];
  unsigned module_count;

  // The value of the word KEY=VALUE of the command line; empty if there is none.
  Text option(Text key) const;
};

const BootInfo& boot_info();

}  // namespace guest

// The program: its return value is the result, 0 for pass.
std::uint32_t guest_main(const guest::BootInfo& boot);
