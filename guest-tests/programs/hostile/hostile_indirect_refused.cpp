// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};
alignas(16) constinit volatile VirtioDescriptor table[4]{};

// A read of sector 0 as an indirect table.
void write_table(VirtioDisk& disk) {
  disk.header = {VirtioDisk::in, 0, 0};
  disk.status = VirtioDisk::unanswered;
  const VirtioBuffer buffers[] = {
      {&disk.header, sizeof(disk.header), false}, {data, sizeof(data), true}, {&disk.status, 1, true}};
  write_chain(table, 0, buffers, 3);
}

}  // namespace

// An indirect descriptor where the driver has not negotiated them.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  write_table(disk);
  expect_broken(disk.queue.place_indirect(table, 3 * sizeof(VirtioDescriptor)));
  expect_recovery();
  return 0;
}
