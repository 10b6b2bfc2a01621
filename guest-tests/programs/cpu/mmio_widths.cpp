// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// Registers in memory at widths 1, 2, 4 and 8: the host bridge's in PCI's memory-mapped configuration space.
std::uint32_t guest_main(const BootInfo&) {
  const std::uint64_t mcfg = find_table("MCFG");
  check(1, mcfg != 0, "MCFG");
  const auto bridge = read<std::uint64_t>(mcfg + 44);
  const auto head = read<std::uint64_t>(bridge);
  print("registers 0 to 7: ", hex(head, 16), "\n");
  check(2, static_cast<std::uint32_t>(head) != 0xffffffff, "a host bridge");
  for (unsigned byte = 0; byte < 8; ++byte)
    check(3, read<std::uint8_t>(bridge + byte) == (head >> 8 * byte & 0xff), "width 1");
  for (unsigned word = 0; word < 8; word += 2)
    check(4, read<std::uint16_t>(bridge + word) == (head >> 8 * word & 0xffff), "width 2");
  for (unsigned word = 0; word < 8; word += 4)
    check(5, read<std::uint32_t>(bridge + word) == (head >> 8 * word & 0xffffffff), "width 4");
  const std::uint64_t interrupt_line = bridge + 0x3c;
  write<std::uint8_t>(interrupt_line, 0x12);
  check(6, read<std::uint8_t>(interrupt_line) == 0x12, "write of width 1");
  write<std::uint16_t>(interrupt_line, 0x34);
  check(7, read<std::uint8_t>(interrupt_line) == 0x34, "write of width 2");
  write<std::uint32_t>(interrupt_line, 0x56);
  check(8, read<std::uint8_t>(interrupt_line) == 0x56, "write of width 4");
  write<std::uint64_t>(interrupt_line - 4, std::uint64_t{0x78} << 32);
  check(9, read<std::uint8_t>(interrupt_line) == 0x78, "write of width 8");
  return 0;
}
