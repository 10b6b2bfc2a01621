// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"
#include "guest-tests/runtime/virtio_pci.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// The ISR status without MSI-X (virtio 1.2, 4.1.4.5): set by an answer, taken away by reading it.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  VirtioPci* const device = find_virtio_pci(virtio_block);
  device->set_msix_control(0);
  check(2, read<std::uint8_t>(device->isr()) == 0, "nothing yet");
  for (unsigned i = 0; i < 3; ++i) {
    check(3, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
    check(4, wait_until([&] { return read<std::uint8_t>(device->isr()) == 1; }, 3), "an answer");
    check(5, read<std::uint8_t>(device->isr()) == 0, "taken away");
  }
  return 0;
}
