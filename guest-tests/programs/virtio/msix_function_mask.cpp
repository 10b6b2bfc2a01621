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

// The mask of all MSI-X vectors (PCI 3.0, 6.8.2.3): what they would send stays pending and comes with the
// unmasking.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  check(1, disk.open(boot), "disk");
  VirtioPci* const device = find_virtio_pci(virtio_block);
  enable_interrupts();

  for (std::uint32_t i = 0; i < 3; ++i) {
    check(2, device->interrupts() == i, "interrupts");
    device->set_msix_control(VirtioPci::msix_enable | VirtioPci::msix_mask_all);
    check(3, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
    check(4, wait_until([&] { return device->is_pending(0); }, 3), "pending");
    check(5, device->interrupts() == i, "no interrupt while all are masked");
    device->set_msix_control(VirtioPci::msix_enable);
    check(6, wait_until([&] { return device->interrupts() == i + 1; }, 3), "the interrupt comes");
  }
  return 0;
}
