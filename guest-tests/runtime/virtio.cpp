// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/virtio.h"

#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"

namespace guest {
namespace {

constinit volatile std::uint32_t interrupts = 0;
constinit VirtioDevice* interrupting = nullptr;

void handle() {
  interrupting->acknowledge_interrupt();
  interrupts = interrupts + 1;
}

}  // namespace

std::uint32_t virtio_interrupts() {
  return interrupts;
}

void VirtioQueue::clear() {
  available.flags = 0;
  available.index = 0;
  used.flags = 0;
  used.index = 0;
  taken_ = 0;
}

void VirtioQueue::add(const VirtioBuffer* buffers, unsigned count) {
  for (std::uint16_t i = 0; i < count; ++i) {
    volatile Descriptor& descriptor = descriptors[i];
    const bool last = i + 1u == count;
    descriptor.address = address_of(buffers[i].data);
    descriptor.size = buffers[i].size;
    descriptor.flags = static_cast<std::uint16_t>((last ? 0 : descriptor_next) |
                                                  (buffers[i].device_writes ? descriptor_write : 0));
    descriptor.next = static_cast<std::uint16_t>(i + 1);
  }
  available.ring[available.index % entries] = 0;
  full_barrier();
  available.index = static_cast<std::uint16_t>(available.index + 1);
  full_barrier();
}

std::uint32_t VirtioQueue::take() {
  const std::uint32_t size = used.ring[taken_ % entries].size;
  ++taken_;
  return size;
}

bool VirtioDevice::reset() {
  set_status(0);
  return wait_until([this] { return status() == 0; });
}

bool VirtioDevice::begin(std::uint64_t wanted) {
  if (!reset()) return false;
  set_status(virtio_acknowledge);
  set_status(virtio_acknowledge | virtio_driver);
  const std::uint64_t offered = device_features();
  if ((offered & virtio_version_1) == 0) return false;
  features_ = (offered & wanted) | virtio_version_1;
  set_driver_features(features_);
  constexpr std::uint8_t ready = virtio_acknowledge | virtio_driver | virtio_features_ok;
  set_status(ready);
  if (status() != ready) return false;
  interrupting = this;
  set_interrupt_handler(virtio_interrupt_vector, handle);
  has_interrupts_ = route_interrupts();
  return true;
}

bool VirtioDevice::request(std::uint16_t index, VirtioQueue& queue, const VirtioBuffer* buffers,
                           unsigned count, std::uint32_t& written) {
  queue.add(buffers, count);
  notify(index);
  if (!wait_until([&] { return queue.has_used(); })) return false;
  written = queue.take();
  return true;
}

VirtioDevice* find_virtio_device(const BootInfo& boot, std::uint32_t type) {
  const Text transport = boot.option("transport");
  VirtioDevice* device = nullptr;
  if (transport.empty() || transport == "pci") device = find_virtio_pci(type);
  if (device == nullptr && transport != "pci") device = find_virtio_mmio(boot, type);
  return device;
}

}  // namespace guest
