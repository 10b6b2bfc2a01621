// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// Lengths far beyond RAM: 4 GiB - 1 for the data, for the header, for the status.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  for (const std::uint16_t which : std::initializer_list<std::uint16_t>{0, 1, 2}) {
    const std::uint16_t head = disk.place(VirtioDisk::in, 0, data, sizeof(data));
    disk.queue.descriptors[head + which].size = 0xffffffff;
    expect_broken(head);
    expect_recovery();
  }
  return 0;
}
