// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/pci.h"

#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/hardware.h"

namespace guest {
namespace {

constexpr std::uint16_t address_port = 0xcf8;
constexpr std::uint16_t data_port = 0xcfc;

// The window for bus 0 of segment 0 (PCI Firmware 3.3, 4.1.2), 0 if there is none.
std::uint64_t ecam() {
  static constinit bool looked = false;
  static constinit std::uint64_t base = 0;
  if (!looked) {
    const std::uint64_t mcfg = find_table("MCFG");
    if (mcfg != 0) base = read<std::uint64_t>(mcfg + 44);
    looked = true;
  }
  return base;
}

std::uint16_t select(unsigned number, std::uint32_t offset) {
  out32(address_port, 0x80000000 | number << 8 | (offset & 0xfc));
  return static_cast<std::uint16_t>(data_port + (offset & 3));
}

}  // namespace

std::uint32_t PciFunction::read32(std::uint32_t offset) const {
  if (ecam() != 0) return read<std::uint32_t>(ecam() + (number_ << 12) + offset);
  return in32(select(number_, offset));
}

std::uint16_t PciFunction::read16(std::uint32_t offset) const {
  if (ecam() != 0) return read<std::uint16_t>(ecam() + (number_ << 12) + offset);
  return in16(select(number_, offset));
}

std::uint8_t PciFunction::read8(std::uint32_t offset) const {
  if (ecam() != 0) return read<std::uint8_t>(ecam() + (number_ << 12) + offset);
  return in8(select(number_, offset));
}

void PciFunction::write32(std::uint32_t offset, std::uint32_t value) const {
  if (ecam() != 0) {
    write(ecam() + (number_ << 12) + offset, value);
  } else {
    out32(select(number_, offset), value);
  }
}

void PciFunction::write16(std::uint32_t offset, std::uint16_t value) const {
  if (ecam() != 0) {
    write(ecam() + (number_ << 12) + offset, value);
  } else {
    out16(select(number_, offset), value);
  }
}

std::uint32_t PciFunction::find_capability(std::uint8_t id, std::uint32_t after) const {
  constexpr std::uint16_t status_has_list = 1 << 4;
  if ((read16(0x06) & status_has_list) == 0) return 0;
  std::uint32_t at = read8(after != 0 ? after + 1 : 0x34);
  for (unsigned count = 0; at >= 0x40 && count < 48; ++count) {
    if (read8(at) == id) return at;
    at = read8(at + 1);
  }
  return 0;
}

std::uint64_t PciFunction::bar(unsigned index) const {
  const std::uint32_t offset = 0x10 + 4 * index;
  const std::uint32_t low = read32(offset);
  if ((low & 1) != 0) return 0;
  const bool wide = (low & 6) == 4;
  return (low & 0xfffffff0) | (wide ? std::uint64_t{read32(offset + 4)} << 32 : 0);
}

void PciFunction::set_bar(unsigned index, std::uint64_t address) const {
  const std::uint32_t offset = 0x10 + 4 * index;
  write32(offset, static_cast<std::uint32_t>(address));
  write32(offset + 4, static_cast<std::uint32_t>(address >> 32));
}

}  // namespace guest
