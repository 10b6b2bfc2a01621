// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};
alignas(16) constinit volatile VirtioDescriptor table[4]{};

}  // namespace

// Indirect tables of no bytes, of less than a descriptor, of no whole number of them, and of nearly 4 GiB.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot, virtio_indirect_desc);
  for (const std::uint32_t size :
       std::initializer_list<std::uint32_t>{0u, 8u, 47u, 49u, 0xfffffff0u, 0xffffffffu}) {
    disk.place_in_table(table, VirtioDisk::in, 0, data, sizeof(data));
    expect_broken(disk.queue.place_indirect(table, size));
    expect_recovery();
  }
  return 0;
}
