// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/virtio_mmio.h"

#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/layout.h"

namespace guest {
namespace {

using Register = VirtioMmioRegister;

constinit VirtioMmio devices[VirtioDevice::most]{};
constinit unsigned device_count = 0;

// The object for a window: the one it had before, or the next.
VirtioMmio* object_for(std::uint64_t base) {
  for (unsigned i = 0; i < device_count; ++i) {
    if (devices[i].base() == base) return &devices[i];
  }
  return device_count < VirtioDevice::most ? &devices[device_count++] : nullptr;
}

VirtioMmio* open_at(std::uint64_t base, std::uint32_t pin, std::uint32_t type) {
  VirtioMmio* const device = object_for(base);
  return device != nullptr && device->open(base, pin, type) ? device : nullptr;
}

}  // namespace

bool VirtioMmio::open(std::uint64_t base, std::uint32_t pin, std::uint32_t type) {
  base_ = base;
  pin_ = pin;
  return get(Register::magic) == magic_value && get(Register::version) == 2 &&
         get(Register::device_id) == type;
}

std::uint32_t VirtioMmio::feature_word(std::uint32_t word) {
  set(Register::device_features_select, word);
  return get(Register::device_features);
}

void VirtioMmio::set_feature_word(std::uint32_t word, std::uint32_t value) {
  set(Register::driver_features_select, word);
  set(Register::driver_features, value);
}

std::uint16_t VirtioMmio::queue_size(std::uint16_t index) {
  set(Register::queue_select, index);
  return static_cast<std::uint16_t>(get(Register::queue_size_max));
}

void VirtioMmio::set_queue_size(std::uint16_t index, std::uint16_t size) {
  set(Register::queue_select, index);
  set(Register::queue_size, size);
}

void VirtioMmio::set_address(Register low, std::uint64_t address) const {
  const std::uint64_t place = base_ + static_cast<std::uint32_t>(low);
  write(place, static_cast<std::uint32_t>(address));
  write(place + 4, static_cast<std::uint32_t>(address >> 32));
}

void VirtioMmio::enable_queue(std::uint16_t index, const VirtioRings& rings) {
  set_queue_size(index, rings.size);
  set_address(Register::queue_descriptors, rings.descriptors);
  set_address(Register::queue_driver, rings.available);
  set_address(Register::queue_device, rings.used);
  set(Register::queue_ready, 1);
}

bool VirtioMmio::queue_enabled(std::uint16_t index) {
  set(Register::queue_select, index);
  return get(Register::queue_ready) == 1;
}

bool VirtioMmio::route_interrupts() {
  if (pin_ == 0) pin_ = find_interrupt_of(static_cast<std::uint32_t>(base_));
  if (pin_ == 0) return false;
  route_pin(pin_, vector());
  return true;
}

VirtioMmio* find_virtio_mmio(const BootInfo& boot, std::uint32_t type, unsigned place) {
  const Text window = boot.option("virtio_mmio");
  if (!window.empty()) {
    const Text address = window.before(':');
    const auto pin = static_cast<std::uint32_t>(parse_number(window.after(address.size() + 1)));
    return open_at(parse_number(address), pin, type);
  }
  for (unsigned slot = 0; slot < virtio_mmio_slots; ++slot) {
    const std::uint64_t base = virtio_mmio_base + slot * virtio_mmio_stride;
    if (read<std::uint32_t>(base + static_cast<std::uint32_t>(Register::device_id)) == type && place-- == 0)
      return open_at(base, 0, type);
  }
  return nullptr;
}

}  // namespace guest
