// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/endian.h"
#include "vmm/base/state.h"
#include "vmm/bus/address_decoder.h"
#include "vmm/bus/register_window.h"

namespace hum::pci {

// Registers of configuration space, header type 0 (PCI Local Bus 3.0, 6.1).
inline constexpr std::uint32_t reg_vendor = 0x00;
inline constexpr std::uint32_t reg_device = 0x02;
inline constexpr std::uint32_t reg_command = 0x04;
inline constexpr std::uint32_t reg_status = 0x06;
inline constexpr std::uint32_t reg_revision = 0x08;  // and the class code above it
inline constexpr std::uint32_t reg_cache_line = 0x0c;
inline constexpr std::uint32_t reg_bar0 = 0x10;
inline constexpr std::uint32_t reg_subsystem_vendor = 0x2c;
inline constexpr std::uint32_t reg_subsystem = 0x2e;
inline constexpr std::uint32_t reg_capabilities = 0x34;
inline constexpr std::uint32_t reg_interrupt_line = 0x3c;
inline constexpr std::uint32_t reg_first_free = 0x40;

inline constexpr std::uint16_t command_memory = 1 << 1;
inline constexpr std::uint16_t command_bus_master = 1 << 2;
inline constexpr std::uint16_t command_no_intx = 1 << 10;
inline constexpr std::uint16_t status_capabilities = 1 << 4;

// Who a function says it is.
struct Identity {
  std::uint16_t vendor = 0;
  std::uint16_t device = 0;
  std::uint8_t revision = 0;
  std::uint32_t class_code = 0;  // base class, subclass, interface: 24 bits
  std::uint16_t subsystem_vendor = 0;
  std::uint16_t subsystem = 0;
};

// One function on the bus: 256 bytes of configuration space with a mask of the writable bits, a list of
// capabilities, and 64-bit memory BARs. Derived classes describe themselves in their constructor. It has no
// INTx pin: interrupts are MSI-X only. The bus calls it under the bus's mutex, never two calls at once.
class PciFunction {
 public:
  explicit PciFunction(const Identity& identity);
  virtual ~PciFunction() = default;
  PciFunction(const PciFunction&) = delete;
  PciFunction& operator=(const PciFunction&) = delete;

  // Configuration space by offset 0 to 4095, any width; beyond 256 it reads as zero.
  virtual void read_config(std::uint32_t offset, std::span<std::byte> data);
  virtual void write_config(std::uint32_t offset, std::span<const std::byte> data);

  struct BarSize {
    unsigned index;
    std::uint64_t size;
  };
  std::vector<BarSize> bar_sizes() const;
  // What firmware does: an address for a BAR (a multiple of its size), decoding left as it is.
  void assign_bar(unsigned index, std::uint64_t address);

  // Where BARs answer from now on. mmio outlives the function.
  void attach(AddressDecoder& mmio);

  // Configuration space. What is read back must be that of the same function: only writable bits may differ.
  void fields(StateVisitor& visitor);

 protected:
  // Reads a field of configuration space.
  template <class T>
  T config(std::uint32_t offset) const {
    T value;
    std::memcpy(&value, config_.data() + offset, sizeof value);
    return value;
  }

  // Appends a capability: body follows the two bytes of identifier and link; writable marks its writable
  // bits (shorter than body: the rest is read-only). Returns its offset. The space for all is 192 bytes.
  std::uint32_t add_capability(std::uint8_t id, std::span<const std::byte> body,
                               std::span<const std::byte> writable = {});

  // A 64-bit non-prefetchable memory BAR in registers index and index + 1 (index 0, 2 or 4). size: a power of
  // two, at least 4096. name is the window's in the decoder's counts; window outlives the function.
  void add_bar(unsigned index, std::uint64_t size, RegisterWindow& window, std::string name);

  // The BAR answers at another address, or (nothing) no longer.
  virtual void bar_moved(unsigned /*index*/, std::optional<std::uint64_t> /*address*/) {}

 private:
  struct Bar {
    unsigned index;
    std::uint64_t size;
    RegisterWindow* window;
    std::string name;
    std::optional<std::uint64_t> decoded;  // where it answers now
    AddressDecoder::Mapping mapping;
  };

  template <class T>
  void set(std::uint32_t offset, T value, T writable = 0) {
    std::memcpy(config_.data() + offset, &value, sizeof value);
    std::memcpy(writable_.data() + offset, &writable, sizeof writable);
  }
  void update_decoding();

  AddressDecoder* mmio_ = nullptr;
  std::array<std::byte, 256> config_{};
  std::array<std::byte, 256> writable_{};
  std::uint32_t next_capability_ = reg_first_free;
  std::uint32_t last_link_ = reg_capabilities;
  std::vector<Bar> bars_;
};

}  // namespace hum::pci
