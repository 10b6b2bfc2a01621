// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// Chains without an end: a descriptor that names itself, two that name each other, the whole table in a
// circle.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  for (const std::uint16_t length : std::initializer_list<std::uint16_t>{1, 2, 16}) {
    for (std::uint16_t i = 0; i < length; ++i) {
      volatile VirtioDescriptor& descriptor = disk.queue.descriptors[i];
      descriptor.address = address_of(data);
      descriptor.size = sizeof(data);
      descriptor.flags = VirtioDescriptor::next_follows | VirtioDescriptor::device_writes;
      descriptor.next = static_cast<std::uint16_t>((i + 1) % length);
    }
    expect_broken(0);
    expect_recovery();
  }
  return 0;
}
