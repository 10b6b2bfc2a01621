// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_disk.h"
#include "guest-tests/runtime/virtio_pci.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// A masked MSI-X vector (PCI 3.0, 6.8.2.9): what it would send stays pending and comes with the unmasking,
// once.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  check(1, disk.open(boot), "disk");
  VirtioPci* const device = find_virtio_pci(virtio_block);
  enable_interrupts();

  for (std::uint32_t i = 0; i < 3; ++i) {
    check(2, device->interrupts() == i, "interrupts");
    device->mask_msix_entry(0, true);
    check(3, !device->is_pending(0), "not pending");
    for (unsigned j = 0; j < 2; ++j)
      check(4, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
    check(5, wait_until([&] { return device->is_pending(0); }, 3), "pending");
    check(6, device->interrupts() == i, "no interrupt while it is masked");
    device->mask_msix_entry(0, false);
    check(7, wait_until([&] { return device->interrupts() == i + 1; }, 3), "the interrupt comes");
    check(8, !device->is_pending(0), "not pending any more");
  }
  return 0;
}
