// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio.h"

namespace guest {

// Register offsets (virtio 1.2, 4.2.2).
enum class VirtioMmioRegister : std::uint32_t {
  magic = 0x000,
  version = 0x004,
  device_id = 0x008,
  vendor_id = 0x00c,
  device_features = 0x010,
  device_features_select = 0x014,
  driver_features = 0x020,
  driver_features_select = 0x024,
  queue_select = 0x030,
  queue_size_max = 0x034,
  queue_size = 0x038,
  queue_ready = 0x044,
  queue_notify = 0x050,
  interrupt_status = 0x060,
  interrupt_acknowledge = 0x064,
  status = 0x070,
  queue_descriptors = 0x080,
  queue_driver = 0x090,
  queue_device = 0x0a0,
  shared_memory_length = 0x0b0,
  generation = 0x0fc,
  config = 0x100,
};

// A virtio-mmio device, version 2, with an edge-triggered interrupt.
class VirtioMmio final : public VirtioDevice {
 public:
  static constexpr std::uint32_t magic_value = 0x74726976;
  static constexpr std::uint32_t interrupt_used = 1;

  // False if there is no such device at base. pin 0: the DSDT says which.
  bool open(std::uint64_t base, std::uint32_t pin, std::uint32_t type);

  std::uint64_t base() const { return base_; }
  std::uint32_t get(VirtioMmioRegister which) const {
    return read<std::uint32_t>(base_ + static_cast<std::uint32_t>(which));
  }
  void set(VirtioMmioRegister which, std::uint32_t value) const {
    write(base_ + static_cast<std::uint32_t>(which), value);
  }

  std::uint8_t status() override { return static_cast<std::uint8_t>(get(VirtioMmioRegister::status)); }
  void set_status(std::uint8_t value) override { set(VirtioMmioRegister::status, value); }
  std::uint32_t feature_word(std::uint32_t word) override;
  void set_feature_word(std::uint32_t word, std::uint32_t value) override;
  std::uint16_t queue_size(std::uint16_t index) override;
  void set_queue_size(std::uint16_t index, std::uint16_t size) override;
  void enable_queue(std::uint16_t index, const VirtioRings& rings) override;
  bool queue_enabled(std::uint16_t index) override;
  void notify(std::uint16_t index) override { set(VirtioMmioRegister::queue_notify, index); }
  std::uint64_t config_address() override {
    return base_ + static_cast<std::uint32_t>(VirtioMmioRegister::config);
  }
  std::uint32_t generation() override { return get(VirtioMmioRegister::generation); }
  bool route_interrupts() override;
  void acknowledge_interrupt() override {
    set(VirtioMmioRegister::interrupt_acknowledge, get(VirtioMmioRegister::interrupt_status));
  }

 private:
  void set_address(VirtioMmioRegister low, std::uint64_t address) const;

  std::uint64_t base_ = 0;
  std::uint32_t pin_ = 0;
};

VirtioMmio* find_virtio_mmio(const BootInfo& boot, std::uint32_t type, unsigned place = 0);

}  // namespace guest
