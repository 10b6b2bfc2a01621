// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/hardware.h"

namespace guest {

// Numbers that look random and are the same in each run: xorshift64*.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed != 0 ? seed : 1) {}

  std::uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545'f491'4f6c'dd1d;
  }

  // Writes a random value of 1, 2, 4 or 8 bytes to a multiple of its width in a window of `size` bytes. Half
  // of the values are small.
  void write_somewhere(std::uint64_t window, std::uint32_t size) {
    const std::uint64_t value = next() >> (next() % 2 == 0 ? 0 : 60);
    const std::uint64_t place = window + next() % size;
    switch (next() % 4) {
      case 0:
        return write(place, static_cast<std::uint8_t>(value));
      case 1:
        return write(place & ~1ull, static_cast<std::uint16_t>(value));
      case 2:
        return write(place & ~3ull, static_cast<std::uint32_t>(value));
      default:
        return write(place & ~7ull, value);
    }
  }

 private:
  std::uint64_t state_;
};

}  // namespace guest
