// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

// DRIVER_OK with no queue: the device lives, and takes nothing for a queue. Address 0 has what would be a
// request if a queue were there.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  check(1, disk.device->begin(), "reset");
  const volatile std::uint64_t nothing = 0;         // a constant would be a null pointer
  write<std::uint64_t>(nothing, 0x7fff'0001'0000);  // flags 0, index 1, head 0x7fff
  disk.device->finish();
  disk.device->notify(0);
  check(2, never([&] { return (disk.device->status() & virtio_needs_reset) != 0; }), "no broken ring");
  expect_recovery();
  constexpr std::uint8_t live = virtio_acknowledge | virtio_driver | virtio_features_ok | virtio_driver_ok;
  check(3, disk.device->status() == live, "status");
  return 0;
}
