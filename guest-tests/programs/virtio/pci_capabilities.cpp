// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_pci.h"

using namespace guest;

// The capabilities of a virtio function (virtio 1.2, 4.1.4): each aligned and within its 192 bytes, the five
// structures and MSI-X once each, inside of the BAR.
std::uint32_t guest_main(const BootInfo&) {
  VirtioPci* const device = find_virtio_pci(virtio_block);
  check(1, device != nullptr, "disk");
  const PciFunction& function = device->function();
  check(2, (function.read16(0x06) & 1 << 4) != 0, "there is a list");
  function.write32(0x10, 0xffffffff);
  const std::uint32_t bar_size = ~(function.read32(0x10) & ~0xfu) + 1;
  unsigned structures[6]{};
  unsigned msix = 0;
  unsigned count = 0;
  for (std::uint32_t at = function.read8(0x34); at != 0; at = function.read8(at + 1)) {
    check(3, at >= 0x40 && at % 4 == 0 && at < 0x100 && ++count < 48, "a capability");
    if (function.read8(at) == pci_capability_msix) ++msix;
    if (function.read8(at) != pci_capability_vendor) continue;
    const std::uint8_t type = function.read8(at + 3);
    check(4, type >= 1 && type <= 5 && function.read8(at + 4) == 0, "a structure in BAR 0");
    check(
        5,
        at + function.read8(at + 2) <= 0x100 && function.read8(at + 2) >= (type == 2 || type == 5 ? 20 : 16),
        "length");
    ++structures[type];
    const std::uint32_t offset = function.read32(at + 8);
    const std::uint32_t size = function.read32(at + 12);
    if (type != 5)
      check(6, size != 0 && offset <= bar_size && size <= bar_size - offset, "inside of the BAR");
    if (type == 1) check(7, size >= 0x38 && offset % 4 == 0, "common configuration");
    if (type == 2) check(8, offset % 2 == 0 && function.read32(at + 16) % 2 == 0, "notifications");
  }
  check(9, msix == 1, "MSI-X");
  for (unsigned type = 1; type <= 5; ++type) check(10, structures[type] == 1, "each structure once");
  return 0;
}
