// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"

#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"

namespace guest {
namespace {

constexpr std::uint16_t line_status = serial_port + 5;
constexpr std::uint8_t data_ready = 0x01;
constexpr std::uint8_t transmitter_empty = 0x20;

void put_digits(std::uint64_t value, unsigned base, unsigned digits) {
  if (value >= base || digits > 1) put_digits(value / base, base, digits > 1 ? digits - 1 : 1);
  put("0123456789abcdef"[value % base]);
}

}  // namespace

void put(char c) {
  while ((in8(line_status) & transmitter_empty) == 0) pause();
  out8(serial_port, static_cast<std::uint8_t>(c));
}

void print_one(Text text) {
  for (const char c : text) {
    if (c == '\n') put('\r');
    put(c);
  }
}

void print_one(Hex number) {
  if (number.prefix) print_one("0x");
  put_digits(number.value, 16, number.digits);
}

void print_one(std::uint64_t number) {
  put_digits(number, 10, 1);
}

bool input_available() {
  return (in8(line_status) & data_ready) != 0;
}

char take_input() {
  return static_cast<char>(in8(serial_port));
}

void exit_machine(std::uint32_t code) {
  out32(exit_port, code);
  stop();
}

void finish(std::uint32_t code, Text what) {
  if (code == 0) {
    print("PASS\n");
  } else {
    print("FAIL ", std::uint64_t{code}, what.empty() ? "" : ": ", what, "\n");
  }
  exit_machine(code);
}

}  // namespace guest
