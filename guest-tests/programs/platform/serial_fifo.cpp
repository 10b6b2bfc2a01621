// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/serial.h"

using namespace guest;

// The receiver's FIFO, filled in loopback mode: 16 bytes, no more, an overrun told once, and received-data
// interrupts from the trigger level on.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint8_t received = 0x04, timeout = 0x0c, fifos = 0xc0;
  constexpr std::uint8_t trigger_at_8 = 0x80, overrun = 0x02;
  out8(serial::fifo_control, serial::fifos_on_empty | trigger_at_8);
  out8(serial::modem_control, serial::loopback);
  out8(serial::interrupt_enable, 1);
  std::uint8_t below = 0, at_level = 0;
  for (std::uint8_t i = 0; i < 17; ++i) {
    out8(serial::data, i);
    if (i == 6) below = in8(serial::interrupt_id);
    if (i == 7) at_level = in8(serial::interrupt_id);
  }
  out8(serial::interrupt_enable, 0);
  const std::uint8_t first_status = in8(serial::line_status);
  const std::uint8_t second_status = in8(serial::line_status);
  unsigned in_order = 0;
  while ((in8(serial::line_status) & 1) != 0 && in8(serial::data) == in_order) ++in_order;
  out8(serial::modem_control, 0);
  check(1, below == (fifos | timeout), "7 bytes: fewer than the trigger level");
  check(2, at_level == (fifos | received), "8 bytes: the trigger level");
  check(3, (first_status & overrun) != 0 && (second_status & overrun) == 0, "an overrun is told once");
  check(4, in_order == 16, "16 bytes in order");
  return 0;
}
