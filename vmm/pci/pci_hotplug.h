// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "vmm/acpi/aml.h"
#include "vmm/base/fd.h"
#include "vmm/base/state.h"
#include "vmm/bus/address_decoder.h"
#include "vmm/bus/interrupts.h"
#include "vmm/bus/register_window.h"
#include "vmm/pci/pci_bus.h"

namespace hum::pci {

// Tells the guest by ACPI of functions that come and of those that are to go, and hears of those it has let
// go: a generic event device (ACPI 6.5, 5.6.9) whose _EVT notifies the slots, and an object with _ADR, _SUN
// and _EJ0 for each slot of the bus (6.1.1, 6.1.11, 6.3.3). Slots are bits of a mask, by their device number.
// The registers belong to vCPU threads, the rest to the machine's owner.
class PciHotplug final : private RegisterWindow {
 public:
  // Takes a pin and maps three 32-bit registers. All outlives it.
  PciHotplug(PciBus& bus, AddressDecoder& ports, IrqPins& irqs);

  // There is a new function in the slot.
  void tell_inserted(unsigned slot);
  // Asks the guest to let the function in the slot go. Once it has, the guest finds the slot empty, and the
  // slot is among those of take_ejected.
  void ask_to_eject(unsigned slot);
  // The slot is empty: nothing is expected of the guest any more, but that it notices.
  void tell_removed(unsigned slot);

  // Readable while there are slots that the guest has let go.
  int ejected_fd() const { return ejected_event_.fd(); }
  std::uint32_t take_ejected();

  // For \_SB, behind the bus's own node.
  acpi::Aml acpi_node() const;
  void fields(StateVisitor& visitor);

 private:
  void read(std::uint64_t offset, std::span<std::byte> data) override;
  void write(std::uint64_t offset, std::span<const std::byte> data) override;
  void hide(std::uint32_t slots);

  PciBus& bus_;
  const std::uint32_t gsi_;
  Interrupt& pin_;
  EventFd ejected_event_;
  std::mutex mutex_;            // guards all below; the bus's may be taken under it
  std::uint32_t inserted_ = 0;  // what the guest has not read yet
  std::uint32_t leaving_ = 0;   // the same
  std::uint32_t asked_ = 0;     // what it may eject
  std::uint32_t ejected_ = 0;   // what take_ejected has not told yet
  AddressDecoder::Mapping mapping_;
};

}  // namespace hum::pci
