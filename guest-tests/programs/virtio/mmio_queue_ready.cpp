// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_mmio.h"

using namespace guest;

namespace {

constinit VirtioQueue queue{};

}  // namespace

// QueueReady and QueueNumMax (virtio 1.2, 4.2.2): for the queue that is selected, and 0 for one that does not
// exist.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioMmio* const device = find_virtio_mmio(boot, virtio_rng);
  check(1, device != nullptr && device->begin(), "entropy device");
  check(2, device->queue_size(0) >= 16 && !device->queue_enabled(0), "queue 0");
  device->set_queue(0, queue);
  check(3, device->queue_enabled(0), "it is ready");
  device->set(VirtioMmioRegister::queue_ready, 0);
  check(4, !device->queue_enabled(0), "it is not ready any more");
  device->set(VirtioMmioRegister::queue_ready, 1);
  for (const std::uint32_t index : std::initializer_list<std::uint32_t>{1, 0x10000, 0xffffffff}) {
    device->set(VirtioMmioRegister::queue_select, index);
    check(5, device->get(VirtioMmioRegister::queue_size_max) == 0, "a queue that does not exist");
    device->set(VirtioMmioRegister::queue_ready, 1);
    check(6, device->get(VirtioMmioRegister::queue_ready) == 0, "it cannot be ready");
  }
  check(7, device->queue_enabled(0), "queue 0 still is");
  return 0;
}
