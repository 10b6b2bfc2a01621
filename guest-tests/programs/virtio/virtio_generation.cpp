// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// The configuration generation (virtio 1.2, 2.5.1) stays the same while the configuration does: through
// set-up, requests and reads.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  const std::uint32_t generation = disk.device->generation();
  for (unsigned i = 0; i < 20; ++i) {
    check(2, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
    check(3, disk.capacity() == 2048 && disk.device->generation() == generation, "generation");
  }
  check(4, disk.device->begin() && disk.device->generation() == generation, "generation after a reset");
  return 0;
}
