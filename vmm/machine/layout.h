// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/boot/memory_map.h"
#include "vmm/memory/guest_address.h"

// The guest's physical address space. Guests see it through ACPI and e820 only, so it may change between
// versions; guest-tests rely on nothing but the ranges documented in docs/architecture.md.
namespace hum::layout {

inline constexpr std::uint64_t gib = 1ull << 30;
inline constexpr std::uint64_t mib = 1ull << 20;

inline constexpr std::uint64_t low_ram_limit = 3 * gib;           // RAM below the hole
inline constexpr std::uint64_t high_ram_begin = 4 * gib;          // RAM above it
inline constexpr std::uint64_t pci_window_begin = 3 * gib + mib;  // 32-bit BARs; behind the boot timer's page
inline constexpr std::uint64_t pci_window_end = 0xd0000000;
inline constexpr std::uint64_t virtio_mmio_begin = 0xd0000000;  // a page for each device
inline constexpr std::uint64_t virtio_mmio_stride = 0x1000;
inline constexpr std::uint64_t ecam_begin = 0xe0000000;  // one bus
inline constexpr std::uint64_t ecam_size = mib;

inline constexpr std::uint64_t low_usable_end = 0x9fc00;

// Where the kernel leaves how it is going down (0x1234: warm, which the default command line asks for after a
// panic only).
inline constexpr GuestAddress reset_flag{0x472};
inline constexpr std::uint16_t reset_flag_warm = 0x1234;

// The RAM of a guest of this size (bytes, a multiple of a page).
std::vector<GuestRange> ram_ranges(std::uint64_t size);

// Where memory that devices bring begins: behind the RAM of a guest of this size, and above 4 GiB.
GuestAddress device_memory_begin(std::uint64_t size);

// What the guest is told of it: RAM, what is reserved in it, and ECAM.
std::vector<MemoryMapEntry> memory_map(std::uint64_t size, bool ecam);

}  // namespace hum::layout
