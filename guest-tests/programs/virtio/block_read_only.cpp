// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};
constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// A read-only disk (virtio 1.2, 5.2.5, VIRTIO_BLK_F_RO): it says so, writes are I/O errors and change
// nothing.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint64_t read_only = 1 << 5;
  check(1, disk.open(boot, read_only), "disk");
  check(2, (disk.device->features() & read_only) != 0, "it says so");
  check(3, disk.request(VirtioDisk::out, 0, data, sizeof(data)) == VirtioDisk::io_error,
        "a write is an I/O error");
  check(4, disk.request(VirtioDisk::in, 0, data, sizeof(data)) == VirtioDisk::ok, "a read");
  check(5, is_disk_pattern(data, sizeof(data)), "nothing has changed");
  check(6, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "flush");
  check(7, disk.device->begin() && disk.start(), "a driver that does not take the feature");
  check(8, disk.request(VirtioDisk::out, 0, data, sizeof(data)) == VirtioDisk::io_error,
        "cannot write either");
  return 0;
}
