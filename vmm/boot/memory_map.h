// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/memory/guest_address.h"

namespace hum {

// What lies at a range of guest-physical addresses. One numbering serves the zero page's e820 table, the PVH
// memory map and the multiboot memory map (ACPI 6.5, table 15.10).
enum class MemoryType : std::uint32_t { usable = 1, reserved = 2, acpi_reclaimable = 3, acpi_nvs = 4 };

struct MemoryMapEntry {
  GuestRange range;
  MemoryType type = MemoryType::usable;
};

// In ascending order and apart; made by the machine, passed on to the guest as it is.
using MemoryMap = std::span<const MemoryMapEntry>;

inline constexpr std::size_t memory_map_capacity = 128;  // entries of the zero page's e820 table

// RAM below 4 GiB ends here at the latest; the rest lies above 4 GiB.
inline constexpr std::uint64_t low_ram_limit = std::uint64_t{3} << 30;

}  // namespace hum
