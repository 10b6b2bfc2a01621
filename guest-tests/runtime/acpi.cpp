// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"

#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"

namespace guest {
namespace {

constexpr std::uint32_t header_size = 36;

constexpr std::uint32_t word_of(Text four) {
  std::uint32_t word = 0;
  for (unsigned i = 0; i < 4; ++i) word |= std::uint32_t{static_cast<std::uint8_t>(four[i])} << (8 * i);
  return word;
}

// Calls entry(address, type) for each of the MADT's structures (5.2.12).
template <class Entry>
void for_each_madt_entry(Entry&& entry) {
  const std::uint64_t madt = find_table("APIC");
  if (madt == 0) return;
  const std::uint64_t end = madt + table_size(madt);
  std::uint64_t at = madt + header_size + 8;
  while (at + 2 <= end && read<std::uint8_t>(at + 1) >= 2) {
    entry(at, read<std::uint8_t>(at));
    at += read<std::uint8_t>(at + 1);
  }
}

// The type for entering S5: the first element of the package \_S5 (7.4.2.6).
bool find_s5_type(std::uint8_t& type) {
  const std::uint64_t dsdt = find_table("DSDT");
  if (dsdt == 0) return false;
  const std::uint64_t end = dsdt + table_size(dsdt) - 10;
  for (std::uint64_t at = dsdt + header_size; at < end; ++at) {
    if (read<std::uint32_t>(at) != word_of("_S5_")) continue;
    if (read<std::uint8_t>(at + 4) != 0x12) continue;
    const std::uint64_t element = at + 7;  // after a package length of one byte and the number of elements
    const auto first = read<std::uint8_t>(element);
    type = first == 0x0a ? read<std::uint8_t>(element + 1) : first;
    return true;
  }
  return false;
}

}  // namespace

std::uint64_t find_rsdp() {
  static constinit std::uint64_t found = 0;
  if (found == 0) found = boot_info().rsdp;
  for (std::uint64_t at = 0xe0000; found == 0 && at < 0x100000; at += 16) {
    if (read<std::uint32_t>(at) == word_of("RSD ") && read<std::uint32_t>(at + 4) == word_of("PTR "))
      found = at;
  }
  return found;
}

std::uint64_t find_table(Text signature) {
  if (signature == "DSDT") {
    const std::uint64_t table = find_table("FACP");
    if (table == 0) return 0;
    const std::uint64_t dsdt =
        table_size(table) >= fadt::dsdt64 + 8 ? read<std::uint64_t>(table + fadt::dsdt64) : 0;
    return dsdt != 0 ? dsdt : read<std::uint32_t>(table + 40);
  }
  const std::uint64_t rsdp = find_rsdp();
  if (rsdp == 0) return 0;
  const bool extended = read<std::uint8_t>(rsdp + 15) >= 2 && read<std::uint64_t>(rsdp + 24) != 0;
  const std::uint64_t list = extended ? read<std::uint64_t>(rsdp + 24) : read<std::uint32_t>(rsdp + 16);
  const std::uint32_t step = extended ? 8 : 4;
  const std::uint64_t end = list + table_size(list);
  for (std::uint64_t at = list + header_size; at + step <= end; at += step) {
    const std::uint64_t table = extended ? read<std::uint64_t>(at) : read<std::uint32_t>(at);
    if (read<std::uint32_t>(table) == word_of(signature)) return table;
  }
  return 0;
}

std::uint32_t table_size(std::uint64_t table) {
  return read<std::uint32_t>(table + 4);
}

std::uint8_t byte_sum(std::uint64_t begin, std::uint64_t size) {
  std::uint64_t sum = 0;
  for (; size >= 8; size -= 8, begin += 8) {
    // Eight bytes as four sums of two, then the four added up in the top 16 bits.
    constexpr std::uint64_t low_bytes = 0x00ff00ff00ff00ff;
    const auto word = read<std::uint64_t>(begin);
    sum += (((word & low_bytes) + (word >> 8 & low_bytes)) * 0x0001000100010001) >> 48;
  }
  for (; size > 0; --size, ++begin) sum += read<std::uint8_t>(begin);
  return static_cast<std::uint8_t>(sum);
}

AcpiRegister read_register(std::uint64_t address) {
  return {read<std::uint8_t>(address), read<std::uint64_t>(address + 4)};
}

void write_register(const AcpiRegister& reg, std::uint8_t value) {
  if (reg.space == 1) {
    out8(static_cast<std::uint16_t>(reg.address), value);
  } else {
    write<std::uint8_t>(reg.address, value);
  }
}

Processors find_processors() {
  Processors result{};
  for_each_madt_entry([&](std::uint64_t entry, std::uint8_t type) {
    constexpr std::uint32_t enabled = 1;
    if (result.count == max_processors) return;
    if (type == 0 && (read<std::uint32_t>(entry + 4) & enabled) != 0)
      result.apic_ids[result.count++] = read<std::uint8_t>(entry + 3);
    if (type == 9 && (read<std::uint32_t>(entry + 8) & enabled) != 0)
      result.apic_ids[result.count++] = read<std::uint32_t>(entry + 4);
  });
  return result;
}

std::uint64_t find_io_apic() {
  std::uint64_t base = io_apic_base;
  for_each_madt_entry([&](std::uint64_t entry, std::uint8_t type) {
    if (type == 1 && read<std::uint32_t>(entry + 8) == 0) base = read<std::uint32_t>(entry + 4);
  });
  return base;
}

std::uint32_t find_interrupt_of(std::uint32_t base) {
  const std::uint64_t dsdt = find_table("DSDT");
  if (dsdt == 0) return 0;
  // Memory32Fixed: 86 09 00, access, base, size; extended interrupt: 89 06 00, flags, count, number (6.4.3).
  constexpr std::uint32_t memory_size = 12;
  const std::uint64_t end = dsdt + table_size(dsdt) - 21;
  for (std::uint64_t at = dsdt + header_size; at < end; ++at) {
    if (read<std::uint32_t>(at + 4) != base || (read<std::uint32_t>(at) & 0xffffff) != 0x000986) continue;
    const std::uint64_t next = at + memory_size;
    if ((read<std::uint32_t>(next) & 0xffffff) == 0x000689) return read<std::uint32_t>(next + 5);
  }
  return 0;
}

void power_off() {
  const std::uint64_t table = find_table("FACP");
  std::uint8_t type = 0;
  if (table == 0 || table_size(table) < fadt::sleep_status || !find_s5_type(type)) return;
  const AcpiRegister control = read_register(table + fadt::sleep_control);
  constexpr std::uint8_t sleep_enable = 1 << 5;
  if (control) write_register(control, static_cast<std::uint8_t>(type << 2 | sleep_enable));
}

void reset_by_acpi() {
  const std::uint64_t table = find_table("FACP");
  if (table == 0 || (read<std::uint32_t>(table + fadt::flags) & fadt::has_reset_register) == 0) return;
  write_register(read_register(table + fadt::reset_register), read<std::uint8_t>(table + fadt::reset_value));
}

}  // namespace guest
