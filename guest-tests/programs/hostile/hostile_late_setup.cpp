// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// Queue registers written after DRIVER_OK change nothing: not where the queue is, not its size, not which are
// enabled.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  disk.device->enable_queue(0, {4, 0x1000, 0x2000, 0x3000});
  check(1, disk.request(VirtioDisk::in, 0, data, sizeof(data)) == VirtioDisk::ok,
        "the queue is where it was");
  VirtioDevice* const other = find_virtio_device(boot, virtio_rng);
  check(2, other->begin(), "entropy device");
  other->finish();
  other->enable_queue(0, {4, 0x1000, 0x2000, 0x3000});
  check(3, !other->queue_enabled(0), "no queue is enabled after DRIVER_OK");
  other->set_driver_features(0);
  check(4, (other->status() & (virtio_features_ok | virtio_needs_reset)) == virtio_features_ok, "status");
  return 0;
}
