// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// Where the guest images expect things that no table tells them.
namespace guest {

inline constexpr std::uint16_t serial_port = 0x3f8;
inline constexpr std::uint32_t serial_pin = 4;  // of the I/O APIC
inline constexpr std::uint16_t exit_port = 0xf4;
inline constexpr std::uint16_t panic_port = 0x505;

// virtio-mmio windows, unless the command line names one (virtio_mmio=ADDRESS:PIN).
inline constexpr std::uint64_t virtio_mmio_base = 0xd0000000;
inline constexpr std::uint64_t virtio_mmio_stride = 0x1000;
inline constexpr unsigned virtio_mmio_slots = 32;

// Used where no MADT says otherwise.
inline constexpr std::uint64_t local_apic_base = 0xfee00000;
inline constexpr std::uint64_t io_apic_base = 0xfec00000;

// An address with neither RAM nor a device behind it.
inline constexpr std::uint64_t unbacked_address = 0xfd000000;

// A page below 1 MiB, RAM and free once the boot information has been copied, for the start of processors
// (a start-up IPI carries its page number). trampoline.S has the same number.
inline constexpr std::uint64_t trampoline_page = 0x8000;

// The same for code in real mode. mode_switches.S has the same number.
inline constexpr std::uint64_t real_mode_page = 0xa000;

inline constexpr unsigned max_processors = 64;

}  // namespace guest
