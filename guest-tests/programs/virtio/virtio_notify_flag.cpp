// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// The device asks for notifications whenever it has run out of requests (virtio 1.2, 2.7.10,
// VRING_USED_F_NO_NOTIFY).
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  for (unsigned i = 0; i < 100; ++i) {
    check(2, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
    check(3, wait_until([] { return disk.queue.used.flags == 0; }, 3), "notifications are wanted");
  }
  return 0;
}
