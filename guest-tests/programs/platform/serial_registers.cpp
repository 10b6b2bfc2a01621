// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/serial.h"

using namespace guest;

// The registers that a driver sets and probes: scratch, line control, the divisor behind its latch, and those
// of which some bits do not exist.
std::uint32_t guest_main(const BootInfo&) {
  out8(serial::scratch, 0xa5);
  check(1, in8(serial::scratch) == 0xa5, "scratch register");
  constexpr std::uint8_t latch = 0x80, eight_bits = 0x03;
  out8(serial::line_control, latch | eight_bits);
  out8(serial::data, 0x34);
  out8(serial::interrupt_enable, 0x12);
  const std::uint8_t low = in8(serial::data);
  const std::uint8_t high = in8(serial::interrupt_enable);
  const std::uint8_t control = in8(serial::line_control);
  out8(serial::line_control, eight_bits);
  check(2, control == (latch | eight_bits), "line control");
  check(3, low == 0x34 && high == 0x12, "divisor");
  check(4, in8(serial::interrupt_enable) == 0, "the divisor is not the interrupts' register");
  out8(serial::interrupt_enable, 0xf0);
  check(5, in8(serial::interrupt_enable) == 0, "interrupts that do not exist");
  out8(serial::modem_control, 0xe0);
  check(6, in8(serial::modem_control) == 0, "outputs that do not exist");
  check(7, (in8(serial::line_status) & 0x60) == 0x60, "the transmitter is empty");
  return 0;
}
