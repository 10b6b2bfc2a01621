// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

namespace {

std::uint8_t cmos(std::uint8_t index) {
  out8(0x70, index);
  return in8(0x71);
}

// A register in binary-coded decimal; 255 if it is none.
std::uint32_t decimal(std::uint8_t index) {
  const std::uint8_t value = cmos(index);
  return (value & 0xf) > 9 || value > 0x99 ? 255 : (value >> 4) * 10u + (value & 0xf);
}

}  // namespace

// The CMOS clock: the update bit clears, the date and time are possible and of this century, the battery is
// good.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint8_t update_in_progress = 0x80, mode_24_hours = 0x02, binary = 0x04, valid = 0x80;
  check(1, wait_until([] { return (cmos(0x0a) & update_in_progress) == 0; }, 2), "the update bit clears");
  check(2, (cmos(0x0b) & (mode_24_hours | binary)) == mode_24_hours, "24 hours, decimal");
  const std::uint32_t year = decimal(0x32) * 100 + decimal(0x09);
  const std::uint32_t month = decimal(0x08), day = decimal(0x07), weekday = decimal(0x06);
  const std::uint32_t hour = decimal(0x04), minute = decimal(0x02), second = decimal(0x00);
  print(std::uint64_t{year}, "-", std::uint64_t{month}, "-", std::uint64_t{day}, " ", std::uint64_t{hour},
        ":", std::uint64_t{minute}, ":", std::uint64_t{second}, "\n");
  check(3, year >= 2024 && year < 2100, "year");
  check(4, month >= 1 && month <= 12 && day >= 1 && day <= 31 && weekday >= 1 && weekday <= 7, "date");
  check(5, hour < 24 && minute < 60 && second < 60, "time");
  check(6, cmos(0x0d) == valid, "valid memory and time");
  return 0;
}
