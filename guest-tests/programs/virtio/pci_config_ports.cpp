// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/virtio_pci.h"

using namespace guest;

namespace {

constexpr std::uint32_t enable = 1u << 31;
constexpr std::uint32_t interrupt_line = 0x3c;

}  // namespace

// Configuration space is the same by its memory window and by the ports 0xcf8 and 0xcfc (PCI 3.0, 3.2.2.3.2),
// at all widths.
std::uint32_t guest_main(const BootInfo&) {
  const PciFunction function = find_virtio_pci(virtio_block)->function();
  const std::uint32_t base = enable | function.device() << 11;
  for (std::uint32_t offset = 0; offset < 256; offset += 4) {
    const std::uint32_t expected = function.read32(offset);
    out32(0xcf8, base | offset);
    check(1, in32(0xcf8) == (base | offset), "the address word");
    check(2, in32(0xcfc) == expected, "32 bits");
    for (std::uint16_t i = 0; i < 4; ++i) {
      check(3, in8(static_cast<std::uint16_t>(0xcfc + i)) == (expected >> 8 * i & 0xff), "8 bits");
      if (i % 2 == 0)
        check(4, in16(static_cast<std::uint16_t>(0xcfc + i)) == (expected >> 8 * i & 0xffff), "16 bits");
    }
  }
  out32(0xcf8, base | interrupt_line);
  out8(0xcfc, 0x5a);
  check(5, function.read8(interrupt_line) == 0x5a, "a write by the ports");
  function.write16(interrupt_line, 0x33);
  check(6, in8(0xcfc) == 0x33, "a write by the window");
  out32(0xcf8, (base | interrupt_line) & ~enable);
  check(7, in32(0xcfc) == 0xffffffff, "nothing without the enable bit");
  out32(0xcf8, base | 7 << 8);
  check(8, in32(0xcfc) == 0xffffffff, "no function 7");
  out32(0xcf8, base | 1 << 16);
  check(9, in32(0xcfc) == 0xffffffff, "no bus 1");
  return 0;
}
