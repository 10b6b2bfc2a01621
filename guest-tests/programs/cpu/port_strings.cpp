// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"

using namespace guest;

// String I/O: 16 bytes written with one rep outsb to the serial port's FIFO in loopback mode come back in
// order with one rep insb, and rep insl reads a register over and over.
std::uint32_t guest_main(const BootInfo&) {
  char sent[] = "0123456789abcdef";
  char received[16] = {};
  const void* from = sent;
  void* to = received;
  std::size_t count = sizeof(received);
  constexpr std::uint16_t fifo_control = serial_port + 2;
  constexpr std::uint16_t modem_control = serial_port + 4;
  out8(fifo_control, 0x07);   // on, and empty
  out8(modem_control, 0x10);  // loopback
  asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(serial_port) : "memory");
  count = sizeof(received);
  asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(serial_port) : "memory");
  out8(modem_control, 0);
  check(1, count == 0 && to == received + sizeof(received), "all bytes are counted");
  check(2, Text(received, sizeof(received)) == Text(sent), "the bytes come back in order");

  std::uint32_t words[5] = {};
  to = words;
  count = 4;
  out32(0xcf8, 0x80000000);
  asm volatile("rep insl" : "+D"(to), "+c"(count) : "d"(0xcfc) : "memory");
  for (unsigned i = 0; i < 4; ++i) check(3, words[i] == in32(0xcfc), "words of a register");
  check(4, words[4] == 0, "not one more");
  return 0;
}
