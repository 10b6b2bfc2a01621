// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"
#include "guest-tests/runtime/virtio.h"

namespace guest {
namespace {

// Register offsets (virtio 1.2, 4.2.2).
constexpr std::uint32_t magic_value = 0x000;
constexpr std::uint32_t version = 0x004;
constexpr std::uint32_t device_id = 0x008;
constexpr std::uint32_t device_features_offset = 0x010;
constexpr std::uint32_t device_features_select = 0x014;
constexpr std::uint32_t driver_features_offset = 0x020;
constexpr std::uint32_t driver_features_select = 0x024;
constexpr std::uint32_t queue_select = 0x030;
constexpr std::uint32_t queue_size_max = 0x034;
constexpr std::uint32_t queue_size_chosen = 0x038;
constexpr std::uint32_t queue_ready = 0x044;
constexpr std::uint32_t queue_notify = 0x050;
constexpr std::uint32_t interrupt_status = 0x060;
constexpr std::uint32_t interrupt_acknowledge = 0x064;
constexpr std::uint32_t device_status = 0x070;
constexpr std::uint32_t queue_descriptors = 0x080;
constexpr std::uint32_t queue_driver = 0x090;
constexpr std::uint32_t queue_device = 0x0a0;
constexpr std::uint32_t config_space = 0x100;

constexpr std::uint32_t magic = 0x74726976;

// A virtio-mmio device, version 2, with an edge-triggered interrupt.
class VirtioMmio final : public VirtioDevice {
 public:
  // pin 0: the DSDT says which.
  bool open(std::uint64_t base, std::uint32_t pin, std::uint32_t type);

  std::uint8_t status() override { return static_cast<std::uint8_t>(get(device_status)); }
  void set_status(std::uint8_t value) override { set(device_status, value); }
  std::uint64_t device_features() override;
  void set_driver_features(std::uint64_t features) override;
  std::uint16_t queue_size(std::uint16_t index) override;
  void set_queue(std::uint16_t index, VirtioQueue& queue) override;
  void notify(std::uint16_t index) override { set(queue_notify, index); }
  std::uint64_t config_address() override { return base_ + config_space; }
  bool route_interrupts() override;
  void acknowledge_interrupt() override { set(interrupt_acknowledge, get(interrupt_status)); }

 private:
  std::uint32_t get(std::uint32_t offset) const { return read<std::uint32_t>(base_ + offset); }
  void set(std::uint32_t offset, std::uint32_t value) const { write(base_ + offset, value); }

  std::uint64_t base_ = 0;
  std::uint32_t pin_ = 0;
};

bool VirtioMmio::open(std::uint64_t base, std::uint32_t pin, std::uint32_t type) {
  base_ = base;
  pin_ = pin;
  return get(magic_value) == magic && get(version) == 2 && get(device_id) == type;
}

std::uint64_t VirtioMmio::device_features() {
  set(device_features_select, 0);
  const std::uint64_t low = get(device_features_offset);
  set(device_features_select, 1);
  return low | std::uint64_t{get(device_features_offset)} << 32;
}

void VirtioMmio::set_driver_features(std::uint64_t features) {
  set(driver_features_select, 0);
  set(driver_features_offset, static_cast<std::uint32_t>(features));
  set(driver_features_select, 1);
  set(driver_features_offset, static_cast<std::uint32_t>(features >> 32));
}

std::uint16_t VirtioMmio::queue_size(std::uint16_t index) {
  set(queue_select, index);
  return static_cast<std::uint16_t>(get(queue_size_max));
}

void VirtioMmio::set_queue(std::uint16_t index, VirtioQueue& queue) {
  queue.clear();
  set(queue_select, index);
  set(queue_size_chosen, VirtioQueue::entries);
  const auto set_address = [this](std::uint32_t offset, std::uint64_t address) {
    set(offset, static_cast<std::uint32_t>(address));
    set(offset + 4, static_cast<std::uint32_t>(address >> 32));
  };
  set_address(queue_descriptors, address_of(&queue.descriptors));
  set_address(queue_driver, address_of(&queue.available));
  set_address(queue_device, address_of(&queue.used));
  set(queue_ready, 1);
}

bool VirtioMmio::route_interrupts() {
  if (pin_ == 0) pin_ = find_interrupt_of(static_cast<std::uint32_t>(base_));
  if (pin_ == 0) return false;
  route_pin(pin_, virtio_interrupt_vector);
  return true;
}

constinit VirtioMmio device{};

}  // namespace

VirtioDevice* find_virtio_mmio(const BootInfo& boot, std::uint32_t type) {
  const Text window = boot.option("virtio_mmio");
  if (!window.empty()) {
    const Text address = window.before(':');
    const auto pin = static_cast<std::uint32_t>(parse_number(window.after(address.size() + 1)));
    return device.open(parse_number(address), pin, type) ? &device : nullptr;
  }
  for (unsigned slot = 0; slot < virtio_mmio_slots; ++slot) {
    if (device.open(virtio_mmio_base + slot * virtio_mmio_stride, 0, type)) return &device;
  }
  return nullptr;
}

}  // namespace guest
