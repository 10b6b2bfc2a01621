// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};
constinit char data[1024]{};

}  // namespace

// Reads and writes that reach past the end of the disk, or are no whole number of sectors, are I/O errors
// (virtio 1.2, 5.2.6.2); those that touch the end work.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  const std::uint64_t end = disk.capacity();
  for (const std::uint32_t type : std::initializer_list<std::uint32_t>{VirtioDisk::in, VirtioDisk::out}) {
    check(2, disk.request(type, end - 2, data, 1024) == VirtioDisk::ok, "the last two sectors");
    check(3, disk.request(type, end - 1, data, 1024) == VirtioDisk::io_error, "across the end");
    check(4, disk.request(type, end, data, 512) == VirtioDisk::io_error, "past the end");
    check(5, disk.request(type, 1ull << 55, data, 512) == VirtioDisk::io_error, "past the end of the bytes");
    check(6, disk.request(type, ~0ull, data, 512) == VirtioDisk::io_error, "the largest sector");
    check(7, disk.request(type, 0, data, 511) == VirtioDisk::io_error, "less than a sector");
    check(8, disk.request(type, 0, data, 513) == VirtioDisk::io_error, "more than a sector");
    check(9, disk.request(type, 0, data, 0) == VirtioDisk::ok, "nothing");
  }
  check(10, disk.request(VirtioDisk::in, 0, data, 512) == VirtioDisk::ok && is_disk_pattern(data, 512),
        "content");
  return 0;
}
