// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit char data[VirtioDisk::sector_size]{};

}  // namespace

// The available index jumps: one more than the queue has entries, half way round, back by one.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  for (const std::uint16_t jump : std::initializer_list<std::uint16_t>{17, 0x8000, 0xffff}) {
    // Each entry of the ring names a request that would work.
    const std::uint16_t head = disk.place(VirtioDisk::in, 0, data, sizeof(data));
    for (std::uint16_t i = 0; i < 16; ++i) disk.queue.available.ring[i] = head;
    disk.queue.available.index = static_cast<std::uint16_t>(disk.queue.available.index + jump);
    disk.device->notify(0);
    expect_broken();
    expect_recovery();
  }
  return 0;
}
