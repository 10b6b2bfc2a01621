// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/pci_hotplug.h"

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/endian.h"

namespace hum::pci {
namespace {

constexpr std::uint16_t port = 0x620;
constexpr std::uint8_t register_bytes = 4;
constexpr std::uint8_t port_bytes = 3 * register_bytes;

// Reading the first two takes what they say, so that nothing falls between a read and a clearing write.
constexpr std::uint64_t reg_inserted = 0;
constexpr std::uint64_t reg_leaving = 4;
constexpr std::uint64_t reg_eject = 8;

constexpr std::uint32_t host_bridge_slot = 1;  // as a mask

constexpr std::uint32_t bit(unsigned slot) {
  return std::uint32_t{1} << slot;
}

std::string slot_name(unsigned slot) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  return {'S', '0', digits[slot / 16], digits[slot % 16]};
}

}  // namespace

PciHotplug::PciHotplug(PciBus& bus, AddressDecoder& ports, IrqPins& irqs)
    : bus_(bus),
      gsi_(irqs.allocate()),
      pin_(irqs.pin(gsi_)),
      mapping_(ports.map("pci-hotplug", port, port_bytes, *this)) {}

void PciHotplug::tell_inserted(unsigned slot) {
  {
    const std::lock_guard lock(mutex_);
    inserted_ |= bit(slot);
  }
  pin_.trigger();
}

void PciHotplug::ask_to_eject(unsigned slot) {
  {
    const std::lock_guard lock(mutex_);
    leaving_ |= bit(slot);
    asked_ |= bit(slot);
  }
  pin_.trigger();
}

void PciHotplug::tell_removed(unsigned slot) {
  {
    const std::lock_guard lock(mutex_);
    for (std::uint32_t* const each : {&inserted_, &asked_, &ejected_}) *each &= ~bit(slot);
    leaving_ |= bit(slot);
  }
  pin_.trigger();
}

std::uint32_t PciHotplug::take_ejected() {
  const std::lock_guard lock(mutex_);
  ejected_event_.drain();
  return std::exchange(ejected_, 0);
}

void PciHotplug::read(std::uint64_t offset, std::span<std::byte> data) {
  if (data.size() != register_bytes) return;
  const std::lock_guard lock(mutex_);
  std::uint32_t value = 0;
  if (offset == reg_inserted) value = std::exchange(inserted_, 0);
  if (offset == reg_leaving) value = std::exchange(leaving_, 0);
  store_le(data, value);
}

// A guest that ejects what nobody has asked for keeps it.
void PciHotplug::write(std::uint64_t offset, std::span<const std::byte> data) {
  if (data.size() != register_bytes || offset != reg_eject) return;
  const std::lock_guard lock(mutex_);
  const std::uint32_t going = static_cast<std::uint32_t>(load_le(data)) & asked_;
  if (going == 0) return;
  asked_ &= ~going;
  ejected_ |= going;
  hide(going);
  ejected_event_.signal();
}

void PciHotplug::hide(std::uint32_t slots) {
  for (unsigned slot = 0; slot < PciBus::slots; ++slot)
    if ((slots & bit(slot)) != 0) bus_.hide(slot);
}

void PciHotplug::fields(StateVisitor& visitor) {
  const std::lock_guard lock(mutex_);
  const auto mask = [&](std::string_view name, std::uint32_t& value) {
    const std::uint32_t then = visitor.number(name, value);
    visitor.require((then & host_bridge_slot) == 0, name, "has the host bridge");
  };
  mask("inserted", inserted_);
  mask("leaving", leaving_);
  mask("asked", asked_);
  mask("ejected", ejected_);
  visitor.afterwards([this] {
    if (ejected_ == 0) return;
    hide(ejected_);
    ejected_event_.signal();
  });
}

acpi::Aml PciHotplug::acpi_node() const {
  using namespace acpi;
  constexpr std::uint8_t device_check = 1;
  constexpr std::uint8_t eject_request = 3;
  const Aml inserted = local(0);
  const Aml leaving = local(1);
  std::vector<Aml> slots = {operation_region_io("HPRG", port, port_bytes),
                            dword_field("HPRG", {{"HPIN", 32}, {"HPLV", 32}, {"HPEJ", 32}})};
  // What leaves does so before something else comes into its slot.
  std::vector<Aml> event = {store(name_reference("\\_SB_.PCI0.HPLV"), leaving),
                            store(name_reference("\\_SB_.PCI0.HPIN"), inserted)};
  for (const auto& [reasons, notification] :
       {std::pair(leaving, eject_request), std::pair(inserted, device_check)})
    for (unsigned slot = 1; slot < PciBus::slots; ++slot)
      event.push_back(if_true(bit_and(reasons, integer(bit(slot))),
                              {notify("\\_SB_.PCI0." + slot_name(slot), notification)}));
  for (unsigned slot = 1; slot < PciBus::slots; ++slot)
    slots.push_back(device(slot_name(slot),
                           {name("_ADR", integer(std::uint64_t{slot} << 16)), name("_SUN", integer(slot)),
                            method("_EJ0", 1, true, {store(integer(bit(slot)), "HPEJ")})}));
  return join({scope("PCI0", {join(slots)}),
               device("GEDP", {name("_HID", string("ACPI0013")), name("_UID", string("PCI")),
                               name("_CRS", resources({interrupt_edge(gsi_)})),
                               method("_EVT", 1, true, {join(event)})})});
}

}  // namespace hum::pci
