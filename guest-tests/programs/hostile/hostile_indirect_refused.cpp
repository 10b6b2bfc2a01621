// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};
alignas(16) constinit volatile VirtioDescriptor table[4]{};

}  // namespace

// An indirect descriptor where the driver has not negotiated them.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  disk.place_in_table(table, VirtioDisk::in, 0, data, sizeof(data));
  expect_broken(disk.queue.place_indirect(table, 3 * sizeof(VirtioDescriptor)));
  expect_recovery();
  return 0;
}
