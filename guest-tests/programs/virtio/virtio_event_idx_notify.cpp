// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// EVENT_IDX towards the device (virtio 1.2, 2.7.10): after each answer, avail_event asks for a notification
// of the next request, and the flag is not used.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  check(1, disk.open(boot, virtio_event_idx), "disk");
  check(2, (disk.device->features() & virtio_event_idx) != 0 && disk.device->has_interrupts(), "EVENT_IDX");

  for (unsigned i = 0; i < 40; ++i) {
    const std::uint16_t next = disk.queue.available.index;
    check(3, wait_until([&] { return disk.queue.available_event() == next; }, 3), "avail_event");
    check(4, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
    check(5, disk.queue.used.flags == 0, "the flag is not used");
  }
  return 0;
}
