// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// Ports at widths 1, 2 and 4: PCI's configuration ports show the host bridge's registers alike at each, and
// take writes at each.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint16_t address = 0xcf8;
  constexpr std::uint16_t data = 0xcfc;
  out32(address, 0x80000000);
  const std::uint32_t id = in32(data);
  print("host bridge ", hex(id, 8), "\n");
  check(1, in32(address) == 0x80000000, "the address port reads back");
  check(2, id != 0xffffffff && id != 0, "a host bridge");
  for (std::uint16_t byte = 0; byte < 4; ++byte)
    check(3, in8(static_cast<std::uint16_t>(data + byte)) == (id >> 8 * byte & 0xff), "width 1");
  for (std::uint16_t word = 0; word < 4; word += 2)
    check(4, in16(static_cast<std::uint16_t>(data + word)) == (id >> 8 * word & 0xffff), "width 2");
  out16(address, 0x1234);
  check(5, in32(address) == 0x80000000, "only four bytes at once are an address");
  out32(address, 0x8000003c);  // the interrupt line, whose low byte may be written
  out8(data, 0x12);
  check(6, in8(data) == 0x12, "write of width 1");
  out16(data, 0x34);
  check(7, in8(data) == 0x34, "write of width 2");
  out32(data, 0x56);
  check(8, in8(data) == 0x56, "write of width 4");
  return 0;
}
