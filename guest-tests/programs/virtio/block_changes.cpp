// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};
constinit volatile char data[VirtioDisk::sector_size]{};

}  // namespace

// A disk that grows while it is used (virtio 1.2, 5.2.5): its sectors are there once the generation has
// changed, up to the last one. Whoever runs this makes the disk larger when it says that it is ready; before
// that it writes, which the host may hold up.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  const std::uint64_t before = disk.capacity();
  const std::uint32_t generation = disk.device->generation();
  data[0] = 'h';
  check(2, disk.request(VirtioDisk::out, before - 1, data, sizeof data) == VirtioDisk::ok, "write");
  check(3, disk.request(VirtioDisk::out, before, data, sizeof data) == VirtioDisk::io_error,
        "a write behind the end");
  print("ready\n");
  while (disk.device->generation() == generation) {
  }
  const std::uint64_t after = disk.capacity();
  check(4, after > before, "the capacity");
  check(5, disk.request(VirtioDisk::out, after - 1, data, sizeof data) == VirtioDisk::ok, "the last sector");
  check(6, disk.request(VirtioDisk::out, after, data, sizeof data) == VirtioDisk::io_error, "one behind it");
  return 0;
}
