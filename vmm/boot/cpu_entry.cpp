// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/cpu_entry.h"

#include <array>

#include "vmm/base/endian.h"
#include "vmm/boot/low_memory.h"

namespace hum::boot {
namespace {

constexpr std::uint64_t cr0_protection = 1u << 0;
constexpr std::uint64_t cr0_extension_type = 1u << 4;
constexpr std::uint64_t cr0_paging = 1u << 31;
constexpr std::uint64_t cr4_physical_address_extension = 1u << 5;
constexpr std::uint64_t efer_long_mode_enable = 1u << 8;
constexpr std::uint64_t efer_long_mode_active = 1u << 10;

// Segment descriptors (Intel SDM volume 3, 3.4.5); the TSS takes two entries in long mode.
constexpr std::uint64_t flat_code_32 = 0x00cf'9b00'0000'ffff;
constexpr std::uint64_t flat_code_64 = 0x00af'9b00'0000'ffff;
constexpr std::uint64_t flat_data = 0x00cf'9300'0000'ffff;
constexpr std::uint64_t busy_task = 0x0000'8b00'0000'0067;

// Page table entries (Intel SDM volume 3, 4.5.4): present, writable, accessed; dirty and 2 MiB for a page.
constexpr std::uint64_t table_flags = 0x23;
constexpr std::uint64_t page_flags = 0xe3;
constexpr std::size_t table_entries = 512;
constexpr std::size_t directories = 4;

CpuEntry flat_entry(const GuestMemory& memory, std::uint64_t rip, std::uint64_t code) {
  const std::array<le64, 6> gdt{0u, 0u, code, flat_data, busy_task, 0u};
  memory.write_bytes(low_memory::gdt, std::as_bytes(std::span(gdt)));
  CpuEntry entry;
  entry.rip = rip;
  entry.rsp = low_memory::stack_top.value - 16;
  entry.cr0 = cr0_protection | cr0_extension_type;
  entry.gdt = low_memory::gdt;
  entry.gdt_limit = sizeof gdt - 1;
  return entry;
}

void write_page_tables(const GuestMemory& memory) {
  constexpr std::uint64_t table_size = table_entries * sizeof(le64);
  std::array<le64, table_entries * (2 + directories)> tables{};
  const std::uint64_t base = low_memory::page_tables.value;
  tables[0] = (base + table_size) | table_flags;
  for (std::size_t i = 0; i < directories; ++i)
    tables[table_entries + i] = (base + (2 + i) * table_size) | table_flags;
  for (std::size_t i = 0; i < directories * table_entries; ++i)
    tables[2 * table_entries + i] = (std::uint64_t{i} << 21) | page_flags;
  memory.write_bytes(low_memory::page_tables, std::as_bytes(std::span(tables)));
}

}  // namespace

CpuEntry enter_protected(const GuestMemory& memory, std::uint64_t rip) {
  return flat_entry(memory, rip, flat_code_32);
}

CpuEntry enter_long(const GuestMemory& memory, std::uint64_t rip) {
  write_page_tables(memory);
  CpuEntry entry = flat_entry(memory, rip, flat_code_64);
  entry.mode = CpuEntry::Mode::long64;
  entry.cr0 |= cr0_paging;
  entry.cr3 = low_memory::page_tables.value;
  entry.cr4 = cr4_physical_address_extension;
  entry.efer = efer_long_mode_enable | efer_long_mode_active;
  return entry;
}

}  // namespace hum::boot
