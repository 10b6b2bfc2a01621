// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// The driver asks for no interrupts (virtio 1.2, 2.7.7, VRING_AVAIL_F_NO_INTERRUPT), and for them again.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  check(1, disk.open(boot) && disk.device->has_interrupts(), "disk");
  enable_interrupts();
  for (unsigned round = 0; round < 3; ++round) {
    const std::uint32_t before = disk.device->interrupts();
    disk.queue.available.flags = VirtioQueue::Available::no_interrupt;
    full_barrier();
    for (unsigned i = 0; i < 10; ++i)
      check(2, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
    check(3, never([&] { return disk.device->interrupts() != before; }), "no interrupt");
    disk.queue.available.flags = 0;
    full_barrier();
    check(4, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
    check(5, wait_until([&] { return disk.device->interrupts() != before; }, 3), "interrupt");
  }
  return 0;
}
