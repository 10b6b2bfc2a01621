// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

// Requests without a byte for the status cannot be answered: nothing writable, or nothing at all.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  for (const std::uint32_t size : std::initializer_list<std::uint32_t>{16, 0}) {
    disk.header = {VirtioDisk::flush, 0, 0};
    const VirtioBuffer buffer{&disk.header, size, false};
    expect_broken(disk.queue.place(&buffer, 1));
    expect_recovery();
  }
  return 0;
}
