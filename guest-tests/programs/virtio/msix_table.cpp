// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_pci.h"

using namespace guest;

// The MSI-X table (PCI 3.0, 6.8.2): masked after the start, its reserved bits read as 0, its entries keep
// what is written; the pending bits cannot be written.
std::uint32_t guest_main(const BootInfo&) {
  VirtioPci* const device = find_virtio_pci(virtio_block);
  check(1, device != nullptr, "disk");
  for (unsigned entry = 0; entry < 2; ++entry) {
    const std::uint64_t at = device->msix_entry(entry);
    check(2, read<std::uint32_t>(at + 12) == VirtioPci::entry_masked, "masked after the start");
    for (std::uint32_t word = 0; word < 4; ++word) write<std::uint32_t>(at + 4 * word, 0xffffffff);
    check(3, read<std::uint32_t>(at) == 0xfffffffc, "address");
    check(4, read<std::uint32_t>(at + 4) == 0xffffffff && read<std::uint32_t>(at + 8) == 0xffffffff, "data");
    check(5, read<std::uint32_t>(at + 12) == VirtioPci::entry_masked, "reserved bits");
    write<std::uint64_t>(at, 0x11223344'55667788);
    check(6, read<std::uint64_t>(at) == 0x11223344'55667788, "8 bytes");
  }
  write<std::uint64_t>(device->pending_bits(), ~0ull);
  check(7, read<std::uint64_t>(device->pending_bits()) == 0, "the pending bits");
  return 0;
}
