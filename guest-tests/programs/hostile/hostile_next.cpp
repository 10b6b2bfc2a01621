// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// A successor outside of the table, with the rest of a request that would work lying behind it.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  for (const std::uint16_t next : std::initializer_list<std::uint16_t>{16, 1000, 0xffff}) {
    const std::uint16_t head = disk.place(VirtioDisk::in, 0, data, sizeof(data));
    disk.queue.descriptors[head].next = next;
    if (next < VirtioQueue::most) {
      volatile VirtioDescriptor& status = disk.queue.descriptors[next];
      status.address = address_of(&disk.status);
      status.size = 1;
      status.flags = VirtioDescriptor::device_writes;
    }
    expect_broken(head);
    expect_recovery();
  }
  return 0;
}
