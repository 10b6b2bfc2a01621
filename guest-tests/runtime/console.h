// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>

#include "guest-tests/runtime/text.h"

// The serial port (a 16550 at 0x3f8), polled, and the ends of an image.
namespace guest {

void put(char c);

struct Hex {
  std::uint64_t value;
  unsigned digits;
  bool prefix;
};
// For print: value in hexadecimal with at least this many digits, with 0x before them or without.
constexpr Hex hex(std::uint64_t value, unsigned digits = 1) {
  return {value, digits, true};
}
constexpr Hex bare_hex(std::uint64_t value, unsigned digits) {
  return {value, digits, false};
}

void print_one(Text text);
void print_one(Hex number);
void print_one(std::uint64_t number);

// Prints texts, numbers (decimal) and hex(numbers), one after the other.
template <class... Parts>
void print(const Parts&... parts) {
  (print_one(parts), ...);
}

// True if a byte has been received; take() returns it.
bool input_available();
char take_input();

// Ends the machine with this code: the test's result.
[[noreturn]] void exit_machine(std::uint32_t code);
// Says PASS or FAIL as the last line of the console and exits with code (0: pass).
[[noreturn]] void finish(std::uint32_t code, Text what = {});

// Check number `number` (1 to 126, the exit code if it fails).
inline void check(std::uint32_t number, bool holds, Text what) {
  if (!holds) finish(number, what);
}

}  // namespace guest
