// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// A readable descriptor behind a writable one (virtio 1.2, 2.7.4.2).
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  disk.header = {VirtioDisk::in, 0, 0};
  const VirtioBuffer buffers[] = {
      {data, sizeof(data), true}, {&disk.header, sizeof(disk.header), false}, {&disk.status, 1, true}};
  expect_broken(disk.queue.place(buffers, 3));
  expect_recovery();
  return 0;
}
