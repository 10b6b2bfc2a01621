// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace guest {

// What the CMOS clock shows.
struct DateTime {
  unsigned year, month, day, hour, minute, second;
};

// False if the machine has no such clock.
bool read_clock(DateTime& time);

// Seconds since 2000-01-01.
std::uint64_t seconds_of(const DateTime& time);

}  // namespace guest
