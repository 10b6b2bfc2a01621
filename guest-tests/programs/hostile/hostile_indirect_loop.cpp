// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};
alignas(16) constinit volatile VirtioDescriptor table[5]{};

}  // namespace

// A chain that goes round in its indirect table, or leaves it.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot, virtio_indirect_desc);
  for (const std::uint16_t next : std::initializer_list<std::uint16_t>{0, 2, 4, 0xffff}) {
    disk.place_in_table(table, VirtioDisk::in, 0, data, sizeof(data));
    volatile VirtioDescriptor& last = table[next == 0 ? 0 : 2];
    last.flags = static_cast<std::uint16_t>(last.flags | VirtioDescriptor::next_follows);
    last.next = next;
    expect_broken(disk.queue.place_indirect(table, 3 * sizeof(VirtioDescriptor)));
    expect_recovery();
  }
  return 0;
}
