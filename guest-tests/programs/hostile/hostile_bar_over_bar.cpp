// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_pci.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constexpr std::uint32_t disk_features = 1 << 2 | 1 << 6 | 1 << 9;  // SEG_MAX, BLK_SIZE, FLUSH

}  // namespace

// The disk's BAR on top of the entropy device's: the one that was there first answers, and both work again
// when they are apart.
std::uint32_t guest_main(const BootInfo& boot) {
  open_victim(boot);
  const PciFunction function = find_virtio_pci(virtio_block)->function();
  VirtioPci* const other = find_virtio_pci(virtio_rng);
  const std::uint64_t home = function.bar(0);
  const std::uint64_t theirs = other->function().bar(0);
  function.set_bar(0, theirs);
  check(1, (other->feature_word(0) & disk_features) == 0, "the entropy device answers");
  check(2, read<std::uint32_t>(home) == 0xffffffff, "nobody answers where the disk was");
  function.set_bar(0, home);
  expect_recovery();
  return 0;
}
