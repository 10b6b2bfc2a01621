// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// Says "ready", echoes what arrives on the serial port until the end of a line, and compares the line with
// expect=TEXT of the command line.
std::uint32_t guest_main(const BootInfo& boot) {
  const Text expected = boot.option("expect");
  print("ready\n");
  char line[128];
  std::size_t size = 0;
  while (true) {
    check(1, wait_until(input_available), "input");
    const char c = take_input();
    if (c == '\n' || c == '\r') break;
    put(c);
    if (size < sizeof(line)) line[size++] = c;
  }
  print("\n");
  check(2, Text(line, size) == expected, "the line is what expect= says");
  return 0;
}
