// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// Ports that nothing answers at read as all ones at each width, and take writes without effect; so does what
// lies behind the end of a device's ports.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint16_t unused[] = {0x02e8, 0x0300, 0x1234, 0xfffc};
  for (const std::uint16_t port : unused) {
    out8(port, 0);
    out16(port, 0);
    out32(port, 0);
    check(1, in8(port) == 0xff, "width 1");
    check(2, in16(port) == 0xffff, "width 2");
    check(3, in32(port) == 0xffffffff, "width 4");
  }
  constexpr std::uint16_t keyboard_status = 0x64;
  check(4, in16(keyboard_status) >> 8 == 0xff, "behind the end of a device");
  return 0;
}
