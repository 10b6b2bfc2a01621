// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/virtio.h"

#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/virtio_mmio.h"
#include "guest-tests/runtime/virtio_pci.h"

namespace guest {
namespace {

constinit VirtioDevice* devices[VirtioDevice::most]{};
constinit unsigned device_count = 0;

template <unsigned slot>
void handle() {
  devices[slot]->count_interrupt();
}

constexpr InterruptHandler handlers[VirtioDevice::most] = {handle<0>, handle<1>, handle<2>, handle<3>};

}  // namespace

void write_chain(volatile VirtioDescriptor* table, std::uint16_t first, const VirtioBuffer* buffers,
                 unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    volatile VirtioDescriptor& descriptor = table[first + i];
    const bool last = i + 1 == count;
    descriptor.address = address_of(buffers[i].data);
    descriptor.size = buffers[i].size;
    descriptor.flags =
        static_cast<std::uint16_t>((last ? 0 : VirtioDescriptor::next_follows) |
                                   (buffers[i].device_writes ? VirtioDescriptor::device_writes : 0));
    descriptor.next = static_cast<std::uint16_t>(first + i + 1);
  }
}

void VirtioQueue::clear(std::uint16_t entries) {
  available.flags = 0;
  available.index = 0;
  available.ring[entries] = 0;
  used.flags = 0;
  used.index = 0;
  used.ring[entries].id = 0;
  size_ = entries;
  next_ = 0;
  taken_ = 0;
}

VirtioRings VirtioQueue::rings() const {
  return {size_, address_of(&descriptors), address_of(&available), address_of(&used)};
}

std::uint16_t VirtioQueue::next_descriptor(unsigned count) {
  const std::uint16_t first = next_ + count > size_ ? std::uint16_t{0} : next_;
  next_ = static_cast<std::uint16_t>(first + count);
  return first;
}

std::uint16_t VirtioQueue::place(const VirtioBuffer* buffers, unsigned count) {
  const std::uint16_t head = next_descriptor(count);
  write_chain(descriptors, head, buffers, count);
  return head;
}

std::uint16_t VirtioQueue::place_indirect(const volatile VirtioDescriptor* table, std::uint32_t bytes) {
  const VirtioBuffer buffer{table, bytes, false};
  const std::uint16_t head = place(&buffer, 1);
  descriptors[head].flags = VirtioDescriptor::indirect;
  return head;
}

void VirtioQueue::offer(std::uint16_t head) {
  const std::uint16_t index = available.index;
  available.ring[index & (size_ - 1)] = head;
  full_barrier();
  available.index = static_cast<std::uint16_t>(index + 1);
  full_barrier();
}

VirtioElement VirtioQueue::take() {
  const volatile VirtioElement& element = used.ring[taken_ & (size_ - 1)];
  ++taken_;
  return {element.id, element.size};
}

void VirtioDevice::set_driver_features(std::uint64_t features) {
  set_feature_word(0, static_cast<std::uint32_t>(features));
  set_feature_word(1, static_cast<std::uint32_t>(features >> 32));
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
  if (slot_ == most) {
    if (device_count == most) return false;
    slot_ = device_count;
    devices[device_count++] = this;
    set_interrupt_handler(vector(), handlers[slot_]);
  }
  has_interrupts_ = route_interrupts();
  return true;
}

void VirtioDevice::set_queue(std::uint16_t index, VirtioQueue& queue, std::uint16_t entries) {
  queue.clear(entries);
  enable_queue(index, queue.rings());
}

bool VirtioDevice::request(std::uint16_t index, VirtioQueue& queue, const VirtioBuffer* buffers,
                           unsigned count, std::uint32_t& written) {
  queue.add(buffers, count);
  notify(index);
  if (!wait_until([&] { return queue.has_used(); })) return false;
  written = queue.take().size;
  return true;
}

VirtioDevice* find_virtio_device(const BootInfo& boot, std::uint32_t type, unsigned place) {
  const Text transport = boot.option("transport");
  VirtioDevice* device = nullptr;
  if (transport.empty() || transport == "pci") device = find_virtio_pci(type, place);
  if (device == nullptr && transport != "pci") device = find_virtio_mmio(boot, type, place);
  return device;
}

}  // namespace guest
