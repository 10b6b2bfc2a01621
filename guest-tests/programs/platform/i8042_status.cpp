// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The keyboard controller that only resets: always ready for a command, with no keyboard behind it, and no
// command but the reset does anything.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint16_t data = 0x60, command = 0x64;
  constexpr std::uint8_t input_full = 0x02;
  constexpr std::uint8_t self_test = 0xaa, pulse_nothing = 0xff, write_output = 0xd1;
  check(1, (in8(command) & input_full) == 0, "ready for a command");
  check(2, in8(data) == 0xff, "no data");
  out8(command, self_test);
  out8(command, pulse_nothing);
  out8(command, write_output);
  out8(data, 0);
  check(3, (in8(command) & input_full) == 0, "ready still");
  return 0;
}
