// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// Sizes that are not allowed (virtio 1.2, 2.7): 0, no power of two, more than the device offers. They leave
// the size as it was, and the queue works.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  VirtioDevice* const device = disk.device;
  check(2, device->begin(), "reset");
  const std::uint16_t largest = device->queue_size(0);
  disk.queue.clear(largest);
  const VirtioRings rings = disk.queue.rings();
  device->set_queue_size(0, largest);
  for (const std::uint16_t size : std::initializer_list<std::uint16_t>{0, 3, 255, 257, 0x8000, 0xffff}) {
    check(3, size > largest || size == 0 || (size & (size - 1)) != 0, "a size that is not allowed");
    device->set_queue_size(0, size);
    check(4, device->queue_size(0) == largest, "size");
    disk.queue.clear(largest);
    device->enable_queue(0, {size, rings.descriptors, rings.available, rings.used});
    device->finish();
    for (unsigned i = 0; i < largest; ++i)
      check(5, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "the queue works");
    check(6, device->begin(), "reset");
  }
  return 0;
}
