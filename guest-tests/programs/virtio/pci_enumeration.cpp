// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/pci.h"

using namespace guest;

// What is on the PCI bus: a host bridge first, virtio functions with the identifiers of virtio 1.2, 4.1.2,
// and nothing where nothing is.
std::uint32_t guest_main(const BootInfo&) {
  const PciFunction bridge(0, 0);
  check(1, bridge.present() && bridge.read32(0x08) >> 8 == 0x060000, "the host bridge");
  unsigned found = 0;
  for_each_pci_function([&](const PciFunction& function) {
    check(2, function.function() == 0 && (function.read8(0x0e) & 0x7f) == 0, "an endpoint");
    if (function.read16(0x00) != 0x1af4) return true;
    ++found;
    check(3, function.read16(0x02) >= 0x1041 && function.read16(0x02) < 0x1080, "device");
    check(4, function.read8(0x08) >= 1, "revision");
    check(5, function.read16(0x2e) >= 0x40 && function.read16(0x2c) == 0x1af4, "subsystem");
    check(6, function.read8(0x3d) == 0, "no interrupt pin");
    function.write32(0x00, 0);
    check(7, function.read16(0x00) == 0x1af4, "it cannot be changed");
    for (std::uint32_t offset = 0x100; offset < 0x1000; offset += 0x100)
      check(8, function.read32(offset) == 0, "no extended capabilities");
    return true;
  });
  check(9, found == 2, "a disk and an entropy device");
  check(10, !PciFunction(1, 1).present() && !PciFunction(31, 7).present(), "nothing else");
  return 0;
}
