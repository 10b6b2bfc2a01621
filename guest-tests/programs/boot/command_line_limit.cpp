// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"

using namespace guest;

// A command line of the greatest length for an ELF image, 2047 characters, arrives whole: first=1 is its
// first word, last=1 its last.
std::uint32_t guest_main(const BootInfo& boot) {
  print(std::uint64_t{boot.command_line.size()}, " characters\n");
  check(1, boot.command_line.size() == 2047, "length");
  check(2, boot.command_line.starts_with("first=1 "), "first word");
  check(3, boot.command_line.after(2047 - 6) == "last=1", "last word");
  return 0;
}
