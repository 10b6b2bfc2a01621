// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/virtio_disk.h"
#include "guest-tests/runtime/virtio_pci.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};
constinit volatile std::uint32_t others = 0;

}  // namespace

// The message of an MSI-X vector changes while it is in use (PCI 3.0, 6.8.2): masked for the change, then the
// new message is sent and never the old.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  check(1, disk.open(boot), "disk");
  VirtioPci* const device = find_virtio_pci(virtio_block);
  enable_interrupts();

  constexpr std::uint8_t other_vector = 60;
  set_interrupt_handler(other_vector, [] { others = others + 1; });
  for (std::uint32_t i = 1; i <= 3; ++i) {
    check(2, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request");
    check(3, wait_until([&] { return device->interrupts() == i; }, 3) && others == i - 1,
          "the first message");
    device->mask_msix_entry(0, true);
    check(4, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "request while it is masked");
    device->set_msix_entry(0, other_vector);
    check(5, wait_until([&] { return others == i; }, 3) && device->interrupts() == i, "the second message");
    device->mask_msix_entry(0, true);
    device->set_msix_entry(0, device->vector());
  }
  return 0;
}
