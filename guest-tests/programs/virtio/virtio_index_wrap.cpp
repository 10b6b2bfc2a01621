// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};
alignas(16) constinit volatile VirtioDescriptor table[2]{};

}  // namespace

// The 16-bit indices wrap (virtio 1.2, 2.7.13): more than 65536 requests, the whole queue at a time.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint16_t size = 256;
  check(1, disk.open(boot, virtio_indirect_desc, size), "disk");
  disk.header = {99, 0, 0};
  const VirtioBuffer buffers[] = {{&disk.header, sizeof(disk.header), false}, {&disk.status, 1, true}};
  write_chain(table, 0, buffers, 2);
  for (std::uint16_t i = 0; i < size; ++i)
    disk.queue.available.ring[i] = disk.queue.place_indirect(table, 2 * sizeof(VirtioDescriptor));
  for (unsigned round = 0; round < 65536 / size + 3; ++round) {
    disk.status = VirtioDisk::unanswered;
    disk.queue.available.index = static_cast<std::uint16_t>(disk.queue.available.index + size);
    full_barrier();
    disk.device->notify(0);
    check(2, wait_until([] { return disk.queue.used.index == disk.queue.available.index; }), "answers");
    check(3, disk.status == VirtioDisk::unsupported, "status");
    check(4, disk.queue.used.ring[size - 1].id == size - 1, "the last id");
  }
  return 0;
}
