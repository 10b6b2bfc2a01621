// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_disk.h"
#include "guest-tests/runtime/virtio_pci.h"

using namespace guest;

namespace {

constinit VirtioDisk disk{};

}  // namespace

// A BAR tells its size (PCI 3.0, 6.2.5.1): all ones read back as a power of two, and the address is kept
// again.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, disk.open(boot), "disk");
  const PciFunction function = find_virtio_pci(virtio_block)->function();
  const std::uint64_t home = function.bar(0);
  const std::uint16_t command = function.read16(0x04);
  check(2, (function.read32(0x10) & 0xf) == 4, "a 64-bit memory BAR");
  function.write16(0x04, static_cast<std::uint16_t>(command & ~pci_command_memory));
  function.set_bar(0, ~0ull);
  const std::uint64_t mask = function.bar(0);
  check(3, mask == ~0x7fffull, "32 KiB");
  check(4, (home & ~mask) == 0, "the address is a multiple of that");
  for (std::uint32_t offset = 0x18; offset < 0x28; offset += 4) {
    function.write32(offset, 0xffffffff);
    check(5, function.read32(offset) == 0, "no other BARs");
  }
  function.set_bar(0, home);
  function.write16(0x04, command);
  check(6, function.bar(0) == home, "the address is back");
  check(7, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "the disk works");
  return 0;
}
