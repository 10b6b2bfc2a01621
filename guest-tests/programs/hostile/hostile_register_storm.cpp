// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_mmio.h"
#include "guest-tests/runtime/virtio_pci.h"
#include "guest-tests/runtime/virtio_random.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

// Thousands of writes with random values and widths all over the window of the disk's registers; then it
// works. seed=N, writes=N.
std::uint32_t guest_main(const BootInfo& boot) {
  VirtioDisk& disk = open_victim(boot);
  Random random(parse_number(boot.option("seed"), 1));
  const auto writes = static_cast<unsigned>(parse_number(boot.option("writes"), 3000));
  std::uint64_t window = 0;
  std::uint32_t size = 0;
  if (VirtioPci* const pci = find_virtio_pci(virtio_block); boot.option("transport") == "pci") {
    pci->set_msix_control(0);  // a random message could be an INIT for this processor
    window = pci->common_address();
    size = 0x8000;
  } else {
    window = find_virtio_mmio(boot, virtio_block)->base();
    size = 0x200;
  }
  for (unsigned i = 0; i < writes; ++i) random.write_somewhere(window, size);
  check(1, disk.device->reset(), "reset");
  expect_recovery();
  return 0;
}
