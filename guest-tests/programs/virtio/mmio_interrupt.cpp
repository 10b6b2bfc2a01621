// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"
#include "guest-tests/runtime/virtio_mmio.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// InterruptStatus and InterruptACK (virtio 1.2, 4.2.2): the bit is there after an answer, until it is
// acknowledged; other bits acknowledge nothing.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  VirtioMmio* const device = find_virtio_mmio(boot, virtio_block);
  check(2, device->get(VirtioMmioRegister::interrupt_status) == 0, "nothing yet");
  for (unsigned i = 0; i < 3; ++i) {
    check(3, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
    check(4,
          wait_until(
              [&] { return device->get(VirtioMmioRegister::interrupt_status) == VirtioMmio::interrupt_used; },
              3),
          "status");
    device->set(VirtioMmioRegister::interrupt_acknowledge, ~VirtioMmio::interrupt_used);
    check(5, device->get(VirtioMmioRegister::interrupt_status) == VirtioMmio::interrupt_used,
          "not acknowledged");
    device->set(VirtioMmioRegister::interrupt_acknowledge, VirtioMmio::interrupt_used);
    check(6, device->get(VirtioMmioRegister::interrupt_status) == 0, "acknowledged");
  }
  check(7, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
  check(8, device->reset() && device->get(VirtioMmioRegister::interrupt_status) == 0,
        "a reset takes it away");
  return 0;
}
