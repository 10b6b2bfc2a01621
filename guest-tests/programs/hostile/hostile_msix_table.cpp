// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_pci.h"
#include "guest-tests/runtime/virtio_random.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constexpr std::uint32_t nobody = 0x20;  // an APIC id that no processor has

}  // namespace

// Random messages for every vector of the disk, some behind the table's end, with requests that interrupt;
// then it works.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  VirtioPci* const pci = find_virtio_pci(virtio_block);
  Random random(1);
  for (unsigned i = 0; i < 1000; ++i)
    write(pci->msix_entry(0) + (random.next() % (i % 2 == 0 ? 0x20 : 0x1000) & ~3ull),
          static_cast<std::uint32_t>(random.next()));
  for (unsigned i = 0; i < 16; ++i) {
    // Not for this processor, which an INIT would reset.
    write(pci->msix_entry(0), static_cast<std::uint32_t>((random.next() & ~0xff004ull) | nobody << 12));
    write<std::uint32_t>(pci->msix_entry(0) + 4, static_cast<std::uint32_t>(random.next()));
    write<std::uint32_t>(pci->msix_entry(0) + 8, static_cast<std::uint32_t>(random.next()));
    pci->mask_msix_entry(0, false);
    check(1, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok,
          "a request with a lost interrupt");
  }
  expect_recovery();
  const std::uint32_t before = pci->interrupts();
  enable_interrupts();
  check(2, disk.request(VirtioDisk::flush, 0, nullptr, 0) == VirtioDisk::ok, "a request");
  check(3, wait_until([&] { return pci->interrupts() > before; }), "interrupt");
  return 0;
}
