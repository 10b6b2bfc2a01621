// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

// An indirect table outside of RAM, or across its end, behind a request that is whole without it.
// memory=N: MiB of RAM.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot, virtio_indirect_desc);
  const std::uint64_t end = parse_number(boot.option("memory"), 128) << 20;
  for (const std::uint64_t address :
       std::initializer_list<std::uint64_t>{end, end - 16, 0xe0000000ull, 0ull - 32}) {
    const std::uint16_t head = disk.place(VirtioDisk::flush, 0, nullptr, 0);
    volatile VirtioDescriptor* const chain = disk.queue.descriptors + head;
    chain[1].flags = VirtioDescriptor::device_writes | VirtioDescriptor::next_follows;
    chain[1].next = static_cast<std::uint16_t>(head + 2);
    chain[2].address = address;
    chain[2].size = 2 * sizeof(VirtioDescriptor);
    chain[2].flags = VirtioDescriptor::indirect;
    expect_broken(head);
    expect_recovery();
  }
  return 0;
}
