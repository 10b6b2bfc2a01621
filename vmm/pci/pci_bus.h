// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "vmm/acpi/aml.h"
#include "vmm/base/state.h"
#include "vmm/bus/address_decoder.h"
#include "vmm/bus/register_window.h"
#include "vmm/bus/write_collector.h"
#include "vmm/memory/guest_address.h"
#include "vmm/pci/pci_function.h"

namespace hum::pci {

// Where the machine has its PCI root. The last addresses are inside; a 64-bit window whose last is below its
// first is absent.
struct PciLayout {
  GuestAddress ecam;  // of bus 0, ecam_bytes from here on
  std::uint32_t mmio32_first = 0;
  std::uint32_t mmio32_last = 0;
  std::uint64_t mmio64_first = 1;
  std::uint64_t mmio64_last = 0;
};

inline constexpr std::uint64_t ecam_bytes = 1 << 20;  // one bus

// Bus 0 with its host bridge, device 0. Configuration space is reached through ECAM (PCI Express Base 5.0,
// 7.2.2) and through the ports 0xcf8 and 0xcfc (PCI Local Bus 3.0, 3.2.2.3.2). One mutex for all accesses to
// configuration space; a function may take its own below it.
class PciBus {
 public:
  // Maps its windows. The decoders and the collector, which takes over the address word's port once a guest
  // uses it, outlive the bus.
  PciBus(const PciLayout& layout, AddressDecoder& ports, AddressDecoder& mmio, WriteCollector& collector);

  static constexpr unsigned slots = 32;

  // Puts a function into a slot, or into the lowest free one, and gives its BARs their addresses, as firmware
  // would: an OS keeps them. Returns the slot, which is the device number. The function stays until it is
  // removed. Throws ConfigError when the slot is taken, or the bus or the address windows are full.
  unsigned add(PciFunction& function, std::optional<unsigned> slot = {});
  // The guest finds the slot empty from now on, but nobody else gets it, and the function's BARs answer on.
  void hide(unsigned slot);
  // Frees the slot and the addresses of its BARs. No vCPU is inside a BAR.
  void remove(unsigned slot);

  // Of the bus, its host bridge, and the addresses that it gave out; the functions that were added are
  // visited by their owners. Throws also where there are others, or in other slots.
  void fields(StateVisitor& visitor);

  // The root bridge and the reservation of ECAM, for \_SB.
  acpi::Aml acpi_node() const;

 private:
  struct Slot {
    PciFunction* function = nullptr;
    bool hidden = false;
    std::vector<GuestRange> bars;  // as they were given out
  };

  // A window whose accesses are two member functions of the bus.
  template <auto read_, auto write_>
  class Window final : public RegisterWindow {
   public:
    explicit Window(PciBus& bus) : bus_(bus) {}
    void read(std::uint64_t offset, std::span<std::byte> data) override { (bus_.*read_)(offset, data); }
    void write(std::uint64_t offset, std::span<const std::byte> data) override {
      (bus_.*write_)(offset, data);
    }

   private:
    PciBus& bus_;
  };

  void read_ecam(std::uint64_t offset, std::span<std::byte> data);
  void write_ecam(std::uint64_t offset, std::span<const std::byte> data);
  void read_address_port(std::uint64_t offset, std::span<std::byte> data);
  void write_address_port(std::uint64_t offset, std::span<const std::byte> data);
  void read_data_port(std::uint64_t offset, std::span<std::byte> data);
  void write_data_port(std::uint64_t offset, std::span<const std::byte> data);

  // address: of ECAM, relative to the bus's first byte. Under the mutex.
  void read_config(std::uint64_t address, std::span<std::byte> data);
  void write_config(std::uint64_t address, std::span<const std::byte> data);
  PciFunction* find(std::uint64_t address, std::size_t size) const;
  std::uint64_t allocate(std::uint64_t size, std::span<const GuestRange> more) const;

  PciLayout layout_;
  AddressDecoder& mmio_;
  WriteCollector& collector_;
  PciFunction host_bridge_;
  std::mutex mutex_;  // guards all below, and every function's configuration space
  std::array<Slot, slots> slots_{};
  std::uint32_t selected_ = 0;  // the word at port 0xcf8
  bool collected_ = false;      // its writes are, since the first
  Window<&PciBus::read_ecam, &PciBus::write_ecam> ecam_{*this};
  Window<&PciBus::read_address_port, &PciBus::write_address_port> address_port_{*this};
  Window<&PciBus::read_data_port, &PciBus::write_data_port> data_port_{*this};
  std::array<AddressDecoder::Mapping, 3> mappings_;
};

}  // namespace hum::pci
