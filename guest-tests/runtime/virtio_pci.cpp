// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/virtio_pci.h"

#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/layout.h"

namespace guest {
namespace {

constinit VirtioPci devices[VirtioDevice::most]{};
constinit unsigned device_count = 0;

bool same(const PciFunction& one, const PciFunction& other) {
  return one.device() == other.device() && one.function() == other.function();
}

// The object for a function: the one it had before, or the next.
VirtioPci* object_for(const PciFunction& function) {
  for (unsigned i = 0; i < device_count; ++i) {
    if (same(devices[i].function(), function)) return &devices[i];
  }
  return device_count < VirtioDevice::most ? &devices[device_count++] : nullptr;
}

}  // namespace

bool VirtioPci::open(const PciFunction& function) {
  function_ = function;
  common_ = notify_ = isr_ = device_ = 0;
  function.write16(
      0x04, static_cast<std::uint16_t>(function.read16(0x04) | pci_command_memory | pci_command_bus_master));
  for (std::uint32_t at = 0; (at = function.find_capability(pci_capability_vendor, at)) != 0;) {
    const std::uint8_t type = function.read8(at + 3);
    if (type == 0 || type > 4) continue;
    const std::uint64_t base = function.bar(function.read8(at + 4));
    if (base == 0) return false;
    const std::uint64_t address = base + function.read32(at + 8);
    if (type == 1) common_ = address;
    if (type == 2) {
      notify_ = address;
      notify_multiplier_ = function.read32(at + 16);
    }
    if (type == 3) isr_ = address;
    if (type == 4) device_ = address;
  }
  msix_ = function.find_capability(pci_capability_msix);
  if (msix_ != 0) {
    const auto place = [&](std::uint32_t offset) {
      const std::uint32_t word = function.read32(msix_ + offset);
      return function.bar(word & 7) + (word & ~7u);
    };
    msix_table_ = place(4);
    msix_pending_ = place(8);
  }
  return common_ != 0 && notify_ != 0;
}

std::uint64_t VirtioPci::notify_address(std::uint16_t index) {
  select(index);
  return notify_ + common<std::uint16_t>(virtio_common::queue_notify_off) * notify_multiplier_;
}

void VirtioPci::set_msix_entry(unsigned number, std::uint8_t vector) const {
  const std::uint64_t entry = msix_entry(number);
  write(entry, static_cast<std::uint32_t>(local_apic_base) | local_apic_id() << 12);
  write<std::uint32_t>(entry + 4, 0);
  write<std::uint32_t>(entry + 8, vector);
  mask_msix_entry(number, false);
}

void VirtioPci::mask_msix_entry(unsigned number, bool masked) const {
  write<std::uint32_t>(msix_entry(number) + 12, masked ? entry_masked : 0);
}

std::uint32_t VirtioPci::feature_word(std::uint32_t word) {
  set_common(virtio_common::device_feature_select, word);
  return common<std::uint32_t>(virtio_common::device_feature);
}

void VirtioPci::set_feature_word(std::uint32_t word, std::uint32_t value) {
  set_common(virtio_common::driver_feature_select, word);
  set_common(virtio_common::driver_feature, value);
}

std::uint16_t VirtioPci::queue_size(std::uint16_t index) {
  select(index);
  return common<std::uint16_t>(virtio_common::queue_size);
}

void VirtioPci::set_queue_size(std::uint16_t index, std::uint16_t size) {
  select(index);
  set_common(virtio_common::queue_size, size);
}

void VirtioPci::enable_queue(std::uint16_t index, const VirtioRings& rings) {
  set_queue_size(index, rings.size);
  set_common<std::uint16_t>(virtio_common::queue_msix_vector, has_interrupts() ? 0 : no_vector);
  const auto set_address = [this](std::uint32_t offset, std::uint64_t address) {
    set_common(offset, static_cast<std::uint32_t>(address));
    set_common(offset + 4, static_cast<std::uint32_t>(address >> 32));
  };
  set_address(virtio_common::queue_descriptors, rings.descriptors);
  set_address(virtio_common::queue_driver, rings.available);
  set_address(virtio_common::queue_device, rings.used);
  set_common<std::uint16_t>(virtio_common::queue_enable, 1);
}

bool VirtioPci::queue_enabled(std::uint16_t index) {
  select(index);
  return common<std::uint16_t>(virtio_common::queue_enable) == 1;
}

bool VirtioPci::route_interrupts() {
  if (msix_ == 0) return false;
  set_msix_control(static_cast<std::uint16_t>((msix_control() | msix_enable) & ~msix_mask_all));
  set_msix_entry(0, vector());
  set_common(virtio_common::config_msix_vector, no_vector);
  return true;
}

VirtioPci* find_virtio_pci(std::uint32_t type, unsigned place) {
  constexpr std::uint32_t vendor = 0x1af4;
  constexpr std::uint32_t first_modern_id = 0x1040;
  VirtioPci* found = nullptr;
  for_each_pci_function([&](const PciFunction& function) {
    if (function.read32(0) != (vendor | (first_modern_id + type) << 16) || place-- != 0) return true;
    VirtioPci* const device = object_for(function);
    if (device != nullptr && device->open(function)) found = device;
    return false;
  });
  return found;
}

}  // namespace guest
