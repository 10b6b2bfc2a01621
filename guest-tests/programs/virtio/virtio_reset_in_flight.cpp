// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

// Each request reads the whole disk.
constexpr std::uint16_t requests = 256;
constexpr std::uint64_t area = 32 << 20;
constexpr std::uint32_t size = 1 << 20;
constinit VirtioDisk disk{};
alignas(16) constinit volatile VirtioDescriptor table[3]{};

}  // namespace

// A reset while requests are under way (virtio 1.2, 2.4.1): once the status reads 0 the device writes nothing
// more.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  const VirtioBuffer buffers[] = {{&disk.header, sizeof(disk.header), false},
                                  {reinterpret_cast<void*>(area), size, true},
                                  {&disk.status, 1, true}};
  write_chain(table, 0, buffers, 3);
  // A device may be done before the reset, or answer all that it had taken before it reads as reset.
  unsigned in_flight = 0;
  for (unsigned round = 0; in_flight < 3; ++round) {
    check(5, round < 50, "a reset with requests under way");
    check(2, disk.start(virtio_indirect_desc, requests), "start");
    write<std::uint64_t>(area, 0);
    for (unsigned i = 0; i < requests; ++i)
      disk.queue.offer(disk.queue.place_indirect(table, 3 * sizeof(VirtioDescriptor)));
    disk.device->notify(0);
    check(3, wait_until([] { return read<std::uint64_t>(area) != 0; }), "the device has begun");
    if (disk.queue.used.index < requests) ++in_flight;
    check(4, disk.device->reset(), "reset");
    const std::uint16_t done = disk.queue.used.index;
    write<std::uint64_t>(area, 0);
    check(6, never([&] { return disk.queue.used.index != done; }), "no answer after the reset");
    check(7, never([&] { return read<std::uint64_t>(area) != 0; }), "nothing is written after the reset");
  }
  return 0;
}
