// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_mmio.h"
#include "guest-tests/runtime/virtio_pci.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

// Notifications of queues that do not exist, or are not enabled: nothing happens.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  for (unsigned live = 0; live < 2; ++live) {
    for (const std::uint32_t index : std::initializer_list<std::uint32_t>{1u, 2u, 255u, 0xffffu})
      disk.device->notify(static_cast<std::uint16_t>(index));
    if (VirtioMmio* const mmio = find_virtio_mmio(boot, virtio_block)) {
      for (const std::uint32_t value :
           std::initializer_list<std::uint32_t>{0x10000u, 0x7fffffffu, 0xffffffffu})
        mmio->set(VirtioMmioRegister::queue_notify, value);
    } else if (VirtioPci* const pci = find_virtio_pci(virtio_block)) {
      const std::uint64_t first = pci->notify_address(0);
      for (std::uint32_t offset = 4; offset < 4096; offset += 4) write<std::uint16_t>(first + offset, 0);
    }
    check(1, (disk.device->status() & virtio_needs_reset) == 0, "no broken ring");
    check(2, disk.device->begin(), "reset");
  }
  expect_recovery();
  return 0;
}
