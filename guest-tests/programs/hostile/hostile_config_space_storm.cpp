// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_pci.h"
#include "guest-tests/runtime/virtio_random.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

// Thousands of random writes to the disk's PCI configuration space; restored from what it held before, it
// works. seed=N, writes=N.
std::uint32_t guest_main(const BootInfo& boot) {
  open_victim(boot);
  VirtioPci* const disk = find_virtio_pci(virtio_block);
  const PciFunction function = disk->function();
  std::uint32_t before[64];
  for (std::uint32_t i = 0; i < 64; ++i) before[i] = function.read32(4 * i);
  Random random(parse_number(boot.option("seed"), 1));
  const auto writes = static_cast<unsigned>(parse_number(boot.option("writes"), 2000));
  for (unsigned i = 0; i < writes; ++i) {
    // Every other write where registers are, the rest all over the 4 KiB.
    const auto offset = static_cast<std::uint32_t>(random.next() % (i % 2 == 0 ? 256 : 4096));
    if (random.next() % 2 == 0) {
      function.write32(offset & ~3u, static_cast<std::uint32_t>(random.next()));
    } else {
      function.write16(offset & ~1u, static_cast<std::uint16_t>(random.next()));
    }
  }
  function.write16(0x04, 0);
  for (std::uint32_t i = 2; i < 64; ++i) function.write32(4 * i, before[i]);
  function.write32(4, before[1]);
  for (std::uint32_t i = 0; i < 64; ++i) check(1, function.read32(4 * i) == before[i], "restored");
  expect_recovery();
  return 0;
}
