// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/acpi/aml.h"
#include "vmm/acpi/fixed_hardware.h"

namespace hum::acpi {

// The memory-mapped configuration space of PCI (PCI Firmware 3.3, 4.1.2): bus 0 of it would be at base.
struct Mcfg {
  std::uint64_t base = 0;
  std::uint8_t first_bus = 0;
  std::uint8_t last_bus = 0;
};

// What the tables tell the guest about its machine.
struct TableOptions {
  std::span<const std::uint32_t> apic_ids;  // of the vCPUs, in the order of their numbers
  std::optional<Mcfg> mcfg = {};
  Aml dsdt_terms = {};      // the devices' nodes, to go under \_SB
  bool legacy_pic = false;  // there are two 8259s too (irqchip=kernel)
  FixedHardware fixed = {};
};

struct BuiltTables {
  std::vector<std::byte> bytes;  // to be written at base
  std::uint64_t rsdp_address = 0;
};

// Where a guest searches for the RSDP (ACPI 6.5, 5.2.5.1).
inline constexpr std::uint64_t bios_area_begin = 0xe0000;
inline constexpr std::uint64_t bios_area_end = 0x100000;

inline constexpr std::uint32_t local_apic_address = 0xfee00000;
inline constexpr std::uint32_t io_apic_address = 0xfec00000;

// Builds RSDP, XSDT, FADT (hardware-reduced), MADT, MCFG and DSDT for base, a multiple of 16 in the BIOS
// area. Throws ConfigError if they do not fit below the area's end.
BuiltTables build_tables(std::uint64_t base, const TableOptions& options);

}  // namespace hum::acpi
