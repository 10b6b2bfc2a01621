// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_pci.h"

using namespace guest;

// The configuration access capability (virtio 1.2, 4.1.4.9): registers of the BAR through configuration
// space, also with decoding off.
std::uint32_t guest_main(const BootInfo&) {
  VirtioPci* const device = find_virtio_pci(virtio_block);
  check(1, device != nullptr && device->begin(), "disk");
  const PciFunction& function = device->function();
  std::uint32_t at = 0;
  while ((at = function.find_capability(pci_capability_vendor, at)) != 0 && function.read8(at + 3) != 5)
    continue;
  check(2, at != 0, "the capability");
  const auto select = [&](std::uint32_t offset, std::uint32_t size) {
    function.write32(at + 8, offset);
    function.write32(at + 12, size);
  };
  function.write16(0x04, 0);
  select(virtio_common::num_queues, 2);
  check(3, function.read16(at + 16) == 1, "number of queues");
  select(virtio_common::device_feature_select, 4);
  function.write32(at + 16, 1);
  select(virtio_common::device_feature, 4);
  check(4, (function.read32(at + 16) & 1) == 1, "VERSION_1");
  select(virtio_common::queue_select, 2);
  function.write16(at + 16, 7);
  check(5, function.read16(at + 16) == 7, "a write");
  select(0x7fff0000, 4);
  function.write32(at + 16, 0x12345678);
  select(virtio_common::queue_select, 3);
  function.write32(at + 16, 5);
  function.write16(0x04, pci_command_memory | pci_command_bus_master);
  check(6, device->common<std::uint16_t>(virtio_common::queue_select) == 7,
        "no access behind the BAR or of 3 bytes");
  return 0;
}
