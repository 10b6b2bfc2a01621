// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};
constinit char data[VirtioDisk::sector_size]{};
constinit VirtioDisk other{};

}  // namespace

// After a reset the device starts anew (virtio 1.2, 3.1.1): another queue at another place, of another size,
// with indices from 0 on.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  for (unsigned i = 0; i < 5; ++i)
    check(2, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
  check(3, disk.queue.used.index == 5, "used index");
  check(4, disk.device->begin(), "reset");
  other.device = disk.device;
  other.device->set_queue(0, other.queue, 64);
  other.device->finish();
  check(5, other.request(VirtioDisk::in, 0, data, sizeof(data)) == VirtioDisk::ok,
        "request by the new queue");
  check(6, is_disk_pattern(data, sizeof(data)), "content");
  check(7, other.queue.used.index == 1 && disk.queue.used.index == 5, "used indices");
  return 0;
}
