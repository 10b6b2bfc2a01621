// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// EVENT_IDX towards the driver (virtio 1.2, 2.7.7): an interrupt comes with the request that used_event
// names, and with no other.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  check(1, disk.open(boot, virtio_event_idx), "disk");
  check(2, (disk.device->features() & virtio_event_idx) != 0 && disk.device->has_interrupts(), "EVENT_IDX");

  enable_interrupts();
  VirtioDevice* const device = disk.device;
  for (std::uint16_t event = 0; event < 12; event = static_cast<std::uint16_t>(event + 3)) {
    disk.queue.used_event() = static_cast<std::uint16_t>(event + 2);
    const std::uint32_t before = device->interrupts();
    for (unsigned i = 0; i < 2; ++i) {
      check(3, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
      check(4, never([&] { return device->interrupts() != before; }), "no interrupt yet");
    }
    check(5, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
    check(6, wait_until([&] { return device->interrupts() != before; }, 3), "interrupt");
  }
  disk.queue.used_event() = static_cast<std::uint16_t>(disk.queue.used.index + 0x8000);
  const std::uint32_t before = device->interrupts();
  for (unsigned i = 0; i < 40; ++i)
    check(7, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
  check(8, device->interrupts() == before, "no interrupt far from the event");
  return 0;
}
