// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"
#include "guest-tests/runtime/pci.h"
#include "guest-tests/runtime/virtio.h"

namespace guest {
namespace {

// Offsets in the common configuration (virtio 1.2, 4.1.4.3).
namespace common {
constexpr std::uint32_t device_feature_select = 0;
constexpr std::uint32_t device_feature = 4;
constexpr std::uint32_t driver_feature_select = 8;
constexpr std::uint32_t driver_feature = 12;
constexpr std::uint32_t config_msix_vector = 16;
constexpr std::uint32_t device_status = 20;
constexpr std::uint32_t queue_select = 22;
constexpr std::uint32_t queue_size = 24;
constexpr std::uint32_t queue_msix_vector = 26;
constexpr std::uint32_t queue_enable = 28;
constexpr std::uint32_t queue_notify_off = 30;
constexpr std::uint32_t queue_descriptors = 32;
constexpr std::uint32_t queue_driver = 40;
constexpr std::uint32_t queue_device = 48;
}  // namespace common

constexpr std::uint16_t no_vector = 0xffff;

// A modern virtio-pci device; interrupts by MSI-X, entry 0 for every queue.
class VirtioPci final : public VirtioDevice {
 public:
  bool open(const PciFunction& function);

  std::uint8_t status() override { return read<std::uint8_t>(common_ + common::device_status); }
  void set_status(std::uint8_t value) override { write(common_ + common::device_status, value); }
  std::uint64_t device_features() override;
  void set_driver_features(std::uint64_t features) override;
  std::uint16_t queue_size(std::uint16_t index) override;
  void set_queue(std::uint16_t index, VirtioQueue& queue) override;
  void notify(std::uint16_t index) override;
  std::uint64_t config_address() override { return device_; }
  bool route_interrupts() override;
  void acknowledge_interrupt() override {}

 private:
  PciFunction function_;
  std::uint64_t common_ = 0;
  std::uint64_t notify_ = 0;
  std::uint64_t device_ = 0;
  std::uint32_t notify_multiplier_ = 0;
};

bool VirtioPci::open(const PciFunction& function) {
  constexpr std::uint8_t vendor_capability = 0x09;
  function_ = function;
  common_ = notify_ = device_ = 0;
  // Memory decoding and bus mastering.
  function.write16(0x04, static_cast<std::uint16_t>(function.read16(0x04) | 0x06));
  for (std::uint32_t at = 0; (at = function.find_capability(vendor_capability, at)) != 0;) {
    const std::uint8_t type = function.read8(at + 3);
    if (type == 0 || type > 4 || type == 3) continue;
    const std::uint64_t base = function.bar(function.read8(at + 4));
    if (base == 0) return false;
    const std::uint64_t address = base + function.read32(at + 8);
    if (type == 1) common_ = address;
    if (type == 2) {
      notify_ = address;
      notify_multiplier_ = function.read32(at + 16);
    }
    if (type == 4) device_ = address;
  }
  return common_ != 0 && notify_ != 0;
}

std::uint64_t VirtioPci::device_features() {
  write<std::uint32_t>(common_ + common::device_feature_select, 0);
  const std::uint64_t low = read<std::uint32_t>(common_ + common::device_feature);
  write<std::uint32_t>(common_ + common::device_feature_select, 1);
  return low | std::uint64_t{read<std::uint32_t>(common_ + common::device_feature)} << 32;
}

void VirtioPci::set_driver_features(std::uint64_t features) {
  write<std::uint32_t>(common_ + common::driver_feature_select, 0);
  write(common_ + common::driver_feature, static_cast<std::uint32_t>(features));
  write<std::uint32_t>(common_ + common::driver_feature_select, 1);
  write(common_ + common::driver_feature, static_cast<std::uint32_t>(features >> 32));
}

std::uint16_t VirtioPci::queue_size(std::uint16_t index) {
  write(common_ + common::queue_select, index);
  return read<std::uint16_t>(common_ + common::queue_size);
}

void VirtioPci::set_queue(std::uint16_t index, VirtioQueue& queue) {
  queue.clear();
  write(common_ + common::queue_select, index);
  write(common_ + common::queue_size, VirtioQueue::entries);
  write<std::uint16_t>(common_ + common::queue_msix_vector, has_interrupts() ? 0 : no_vector);
  const auto set_address = [this](std::uint32_t offset, std::uint64_t address) {
    write(common_ + offset, static_cast<std::uint32_t>(address));
    write(common_ + offset + 4, static_cast<std::uint32_t>(address >> 32));
  };
  set_address(common::queue_descriptors, address_of(&queue.descriptors));
  set_address(common::queue_driver, address_of(&queue.available));
  set_address(common::queue_device, address_of(&queue.used));
  write<std::uint16_t>(common_ + common::queue_enable, 1);
}

void VirtioPci::notify(std::uint16_t index) {
  write(common_ + common::queue_select, index);
  const std::uint32_t offset = read<std::uint16_t>(common_ + common::queue_notify_off) * notify_multiplier_;
  write(notify_ + offset, index);
}

// PCI 3.0, 6.8.2: entry 0 of the table gets a message for the running processor.
bool VirtioPci::route_interrupts() {
  constexpr std::uint8_t msix_capability = 0x11;
  constexpr std::uint16_t msix_enable = 1 << 15;
  const std::uint32_t msix = function_.find_capability(msix_capability);
  if (msix == 0) return false;
  const std::uint32_t table = function_.read32(msix + 4);
  const std::uint64_t entry = function_.bar(table & 7) + (table & ~7u);
  function_.write16(msix + 2, static_cast<std::uint16_t>(function_.read16(msix + 2) | msix_enable));
  write(entry, static_cast<std::uint32_t>(local_apic_base) | local_apic_id() << 12);
  write<std::uint32_t>(entry + 4, 0);
  write<std::uint32_t>(entry + 8, virtio_interrupt_vector);
  write<std::uint32_t>(entry + 12, 0);
  write(common_ + common::config_msix_vector, no_vector);
  return true;
}

constinit VirtioPci device{};

}  // namespace

VirtioDevice* find_virtio_pci(std::uint32_t type) {
  constexpr std::uint32_t vendor = 0x1af4;
  constexpr std::uint32_t first_modern_id = 0x1040;
  VirtioDevice* found = nullptr;
  for_each_pci_function([&](const PciFunction& function) {
    const std::uint32_t id = function.read32(0);
    if (id == (vendor | (first_modern_id + type) << 16) && device.open(function)) found = &device;
    return found == nullptr;
  });
  return found;
}

}  // namespace guest
