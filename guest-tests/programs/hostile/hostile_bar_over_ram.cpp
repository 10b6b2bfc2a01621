// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_pci.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

// The disk's BAR on top of RAM: the RAM stays, and the disk is back when the BAR is.
std::uint32_t guest_main(const BootInfo& boot) {
  open_victim(boot);
  const PciFunction function = find_virtio_pci(virtio_block)->function();
  const std::uint64_t home = function.bar(0);
  constexpr std::uint64_t ram = 16 << 20;
  for (std::uint64_t at = 0; at < 0x8000; at += 0x1000) write<std::uint64_t>(ram + at, at + 1);
  for (const std::uint64_t address :
       std::initializer_list<std::uint64_t>{ram, 0, 0x100000, 0xffff'ffff'ffff'8000}) {
    function.set_bar(0, address);
    for (std::uint64_t at = 0; at < 0x8000; at += 0x1000)
      check(1, read<std::uint64_t>(ram + at) == at + 1, "the RAM is as it was");
    function.set_bar(0, home);
    expect_recovery();
  }
  return 0;
}
