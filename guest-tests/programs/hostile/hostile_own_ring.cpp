// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

// A read whose data lands on the available ring that it came by: the indices turn to garbage, and that is
// noticed when the device looks there again.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  const std::uint16_t head = disk.place(VirtioDisk::in, 0, &disk.queue.available, 512);
  disk.queue.offer(head);
  const auto broken = [&] {
    disk.device->notify(0);
    return (disk.device->status() & virtio_needs_reset) != 0;
  };
  check(1, wait_until(broken, 3), "the device needs a reset");
  expect_recovery();
  return 0;
}
