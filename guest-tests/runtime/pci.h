// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace guest {

// A function on PCI bus 0, reached through the MCFG's memory window, or through ports 0xcf8 and 0xcfc where
// there is no MCFG.
class PciFunction {
 public:
  constexpr PciFunction() = default;
  constexpr PciFunction(unsigned device, unsigned function) : number_(device << 3 | function) {}

  unsigned device() const { return number_ >> 3; }
  unsigned function() const { return number_ & 7; }

  // Offsets are multiples of the width.
  std::uint32_t read32(std::uint32_t offset) const;
  std::uint16_t read16(std::uint32_t offset) const;
  std::uint8_t read8(std::uint32_t offset) const;
  void write32(std::uint32_t offset, std::uint32_t value) const;
  void write16(std::uint32_t offset, std::uint16_t value) const;

  bool present() const { return read32(0) != 0xffffffff; }
  // The offset of the first capability with this id after the capability at `after` (0: from the start), 0 if
  // there is none.
  std::uint32_t find_capability(std::uint8_t id, std::uint32_t after = 0) const;
  // The address that a memory BAR holds, 0 if it is none or not assigned.
  std::uint64_t bar(unsigned index) const;
  // Places a 64-bit memory BAR; while it answers, in two steps.
  void set_bar(unsigned index, std::uint64_t address) const;

 private:
  unsigned number_ = 0;
};

// Calls visit(function) for each function of bus 0 until it returns false.
template <class Visit>
void for_each_pci_function(Visit&& visit) {
  constexpr std::uint8_t multifunction = 0x80;
  for (unsigned device = 0; device < 32; ++device) {
    const PciFunction first(device, 0);
    if (!first.present()) continue;
    const unsigned functions = (first.read8(0x0e) & multifunction) != 0 ? 8 : 1;
    for (unsigned number = 0; number < functions; ++number) {
      const PciFunction function(device, number);
      if ((number == 0 || function.present()) && !visit(function)) return;
    }
  }
}

}  // namespace guest
