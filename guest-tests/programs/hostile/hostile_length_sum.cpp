// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// A chain of more than 4 GiB (virtio 1.2, 2.7.5.2), each piece of which is RAM: the same 64 MiB 66 times.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  check(1, disk.start(0, 128), "a queue of 128 entries");
  constexpr unsigned pieces = 66;
  static constinit VirtioBuffer buffers[pieces + 2]{};
  buffers[0] = {&disk.header, sizeof(disk.header), false};
  for (unsigned i = 1; i <= pieces; ++i) buffers[i] = {data, 64 << 20, true};
  buffers[pieces + 1] = {&disk.status, 1, true};
  disk.header = {VirtioDisk::in, 0, 0};
  expect_broken(disk.queue.place(buffers, pieces + 2));
  expect_recovery();
  return 0;
}
