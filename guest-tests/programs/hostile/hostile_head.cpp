// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// Heads outside of the table, with a request that would work lying behind it.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  for (const std::uint16_t head : std::initializer_list<std::uint16_t>{16, 256, 0x7fff, 0xffff}) {
    const std::uint16_t placed = disk.place(VirtioDisk::in, 0, data, sizeof(data));
    if (head < VirtioQueue::most) {
      for (std::uint16_t i = 0; i < 3; ++i) {
        volatile VirtioDescriptor& copy = disk.queue.descriptors[head + i];
        copy.address = disk.queue.descriptors[placed + i].address;
        copy.size = disk.queue.descriptors[placed + i].size;
        copy.flags = disk.queue.descriptors[placed + i].flags;
        copy.next = static_cast<std::uint16_t>(placed + i + 1);
      }
    }
    expect_broken(head);
    expect_recovery();
  }
  return 0;
}
