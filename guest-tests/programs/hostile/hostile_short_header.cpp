// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// A header with fewer than its 16 bytes, or none, is answered with an I/O error.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  for (const std::uint32_t size : std::initializer_list<std::uint32_t>{0, 1, 8, 15}) {
    const std::uint16_t head = disk.place(VirtioDisk::in, 0, data, sizeof(data));
    disk.queue.descriptors[head].size = size;
    check(1, disk.send(head) == VirtioDisk::io_error, "I/O error");
    check(2, data[0] == 0, "the data is left alone");
    expect_recovery();
  }
  return 0;
}
