// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/text.h"

// ACPI tables where the loader put them (ACPI 6.5, chapter 5). Addresses; 0 where there is no such thing.
namespace guest {

// A generic address structure (5.2.3.2).
struct AcpiRegister {
  std::uint8_t space;  // 0: memory, 1: ports
  std::uint64_t address;

  explicit operator bool() const { return address != 0; }
};

// Fields of the FADT (5.2.9).
namespace fadt {
inline constexpr std::uint32_t flags = 112;
inline constexpr std::uint32_t reset_register = 116;
inline constexpr std::uint32_t reset_value = 128;
inline constexpr std::uint32_t dsdt64 = 140;
inline constexpr std::uint32_t sleep_control = 244;
inline constexpr std::uint32_t sleep_status = 256;
inline constexpr std::uint32_t has_reset_register = 1 << 10;
inline constexpr std::uint32_t hardware_reduced = 1 << 20;
}  // namespace fadt

// From the boot information, else by scanning 0xe0000 to 0xfffff.
std::uint64_t find_rsdp();
// A table that the XSDT (or RSDT) lists; "DSDT" comes from the FADT.
std::uint64_t find_table(Text signature);
std::uint32_t table_size(std::uint64_t table);
// The sum of the bytes modulo 256, which is 0 for a whole table.
std::uint8_t byte_sum(std::uint64_t begin, std::uint64_t size);
AcpiRegister read_register(std::uint64_t address);
void write_register(const AcpiRegister& reg, std::uint8_t value);

// The MADT's processors that are enabled, in its order, by APIC id.
struct Processors {
  std::uint32_t apic_ids[64];
  unsigned count;
};
Processors find_processors();
// The I/O APIC of the MADT, else the usual place.
std::uint64_t find_io_apic();

// The interrupt that the DSDT's device with registers at `base` (a 32-bit fixed memory range followed by an
// extended interrupt descriptor) has; 0 if there is none.
std::uint32_t find_interrupt_of(std::uint32_t base);

// Switches off through the FADT's sleep control register, with the S5 type of the DSDT (4.8.3.7); returns if
// there is none.
void power_off();
// Resets through the FADT's reset register (4.8.3.6); returns if there is none.
void reset_by_acpi();

}  // namespace guest
