// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

namespace {

constexpr std::uint16_t channel_2 = 0x42;
constexpr std::uint16_t control = 0x43;
constexpr std::uint16_t speaker = 0x61;  // bit 0: channel 2 counts, bit 5: its output

std::uint32_t read_count() {
  constexpr std::uint8_t latch_count_of_channel_2 = 0xd8;
  out8(control, latch_count_of_channel_2);
  const std::uint32_t low = in8(channel_2);
  return low | std::uint32_t{in8(channel_2)} << 8;
}

}  // namespace

// With irqchip=kernel: channel 2 of the PIT counts down while its gate is open, its status is read back, and
// its output rises when the count has run out.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint8_t mode_0 = 0xb0;  // channel 2, low and high byte
  constexpr std::uint8_t latch_status_of_channel_2 = 0xe8;
  out8(speaker, 1);
  check(1, (in8(speaker) & 3) == 1, "the gate's register");
  out8(control, mode_0);
  out8(channel_2, 0x00);
  out8(channel_2, 0x20);
  out8(control, latch_status_of_channel_2);
  check(2, (in8(channel_2) & 0x3f) == 0x30, "status: mode 0, low and high byte");
  const std::uint32_t first = read_count();
  check(3, first <= 0x2000 && first > 0, "it counts from what was written");
  check(4, wait_until([&] { return read_count() < first; }), "downwards");
  check(5, wait_until([] { return (in8(speaker) & 0x20) != 0; }), "the output rises");
  return 0;
}
