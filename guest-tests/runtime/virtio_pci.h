// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/pci.h"
#include "guest-tests/runtime/virtio.h"

namespace guest {

// Offsets in the common configuration (virtio 1.2, 4.1.4.3).
namespace virtio_common {
inline constexpr std::uint32_t device_feature_select = 0;
inline constexpr std::uint32_t device_feature = 4;
inline constexpr std::uint32_t driver_feature_select = 8;
inline constexpr std::uint32_t driver_feature = 12;
inline constexpr std::uint32_t config_msix_vector = 16;
inline constexpr std::uint32_t num_queues = 18;
inline constexpr std::uint32_t device_status = 20;
inline constexpr std::uint32_t config_generation = 21;
inline constexpr std::uint32_t queue_select = 22;
inline constexpr std::uint32_t queue_size = 24;
inline constexpr std::uint32_t queue_msix_vector = 26;
inline constexpr std::uint32_t queue_enable = 28;
inline constexpr std::uint32_t queue_notify_off = 30;
inline constexpr std::uint32_t queue_descriptors = 32;
inline constexpr std::uint32_t queue_driver = 40;
inline constexpr std::uint32_t queue_device = 48;
}  // namespace virtio_common

inline constexpr std::uint8_t pci_capability_vendor = 0x09;
inline constexpr std::uint8_t pci_capability_msix = 0x11;
inline constexpr std::uint16_t pci_command_memory = 1 << 1;
inline constexpr std::uint16_t pci_command_bus_master = 1 << 2;

// A modern virtio-pci device; interrupts by MSI-X, entry 0 for every queue.
class VirtioPci final : public VirtioDevice {
 public:
  static constexpr std::uint16_t no_vector = 0xffff;
  static constexpr std::uint16_t msix_enable = 1 << 15;
  static constexpr std::uint16_t msix_mask_all = 1 << 14;
  static constexpr std::uint32_t entry_masked = 1;

  // Takes the addresses from configuration space: once more after a BAR has moved. False if it is no such
  // device.
  bool open(const PciFunction& function);

  const PciFunction& function() const { return function_; }
  std::uint64_t isr() const { return isr_; }
  // The place where a queue is notified.
  std::uint64_t notify_address(std::uint16_t index);

  // A field of the common configuration.
  template <class T>
  T common(std::uint32_t offset) const {
    return read<T>(common_ + offset);
  }
  template <class T>
  void set_common(std::uint32_t offset, T value) const {
    write<T>(common_ + offset, value);
  }
  std::uint64_t common_address() const { return common_; }

  // MSI-X (PCI 3.0, 6.8.2): the control word, an entry of the table, the pending bits.
  std::uint16_t msix_control() const { return function_.read16(msix_ + 2); }
  void set_msix_control(std::uint16_t value) const { function_.write16(msix_ + 2, value); }
  std::uint64_t msix_entry(unsigned number) const { return msix_table_ + 16 * number; }
  // The message for the running processor, unmasked.
  void set_msix_entry(unsigned number, std::uint8_t vector) const;
  void mask_msix_entry(unsigned number, bool masked) const;
  std::uint64_t pending_bits() const { return msix_pending_; }
  bool is_pending(unsigned number) const { return (read<std::uint64_t>(msix_pending_) >> number & 1) != 0; }

  std::uint8_t status() override { return common<std::uint8_t>(virtio_common::device_status); }
  void set_status(std::uint8_t value) override { set_common(virtio_common::device_status, value); }
  std::uint32_t feature_word(std::uint32_t word) override;
  void set_feature_word(std::uint32_t word, std::uint32_t value) override;
  std::uint16_t queue_size(std::uint16_t index) override;
  void set_queue_size(std::uint16_t index, std::uint16_t size) override;
  void enable_queue(std::uint16_t index, const VirtioRings& rings) override;
  bool queue_enabled(std::uint16_t index) override;
  void notify(std::uint16_t index) override { write(notify_address(index), index); }
  std::uint64_t config_address() override { return device_; }
  std::uint32_t generation() override { return common<std::uint8_t>(virtio_common::config_generation); }
  bool route_interrupts() override;
  void acknowledge_interrupt() override {}

 private:
  void select(std::uint16_t index) const { set_common(virtio_common::queue_select, index); }

  PciFunction function_;
  std::uint64_t common_ = 0;
  std::uint64_t notify_ = 0;
  std::uint64_t isr_ = 0;
  std::uint64_t device_ = 0;
  std::uint32_t notify_multiplier_ = 0;
  std::uint32_t msix_ = 0;  // the capability
  std::uint64_t msix_table_ = 0;
  std::uint64_t msix_pending_ = 0;
};

VirtioPci* find_virtio_pci(std::uint32_t type, unsigned place = 0);

}  // namespace guest
