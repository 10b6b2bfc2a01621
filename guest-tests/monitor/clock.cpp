// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/monitor/clock.h"

#include "guest-tests/runtime/hardware.h"

namespace guest {
namespace {

std::uint8_t read_cmos(std::uint8_t index) {
  out8(0x70, index);
  return in8(0x71);
}

}  // namespace

bool read_clock(DateTime& time) {
  constexpr std::uint8_t update_in_progress = 0x80;
  constexpr std::uint8_t binary = 0x04;
  unsigned tries = 0;
  while ((read_cmos(0x0a) & update_in_progress) != 0) {
    if (++tries == 200) return false;
  }
  const bool is_binary = (read_cmos(0x0b) & binary) != 0;
  const auto value = [is_binary](std::uint8_t index) -> unsigned {
    const std::uint8_t raw = read_cmos(index);
    return is_binary ? raw : (raw >> 4) * 10u + (raw & 15u);
  };
  time = {2000 + value(9), value(8), value(7), value(4), value(2), value(0)};
  return time.month >= 1 && time.month <= 12;
}

std::uint64_t seconds_of(const DateTime& time) {
  constexpr unsigned days_before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  const unsigned years = time.year - 2000;
  const unsigned leap_days = (years + 3) / 4 + (years % 4 == 0 && time.month > 2 ? 1 : 0);
  const std::uint64_t days = years * 365 + leap_days + days_before[time.month - 1] + time.day - 1;
  return ((days * 24 + time.hour) * 60 + time.minute) * 60 + time.second;
}

}  // namespace guest
