// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"

// Prints for ever.
std::uint32_t guest_main(const guest::BootInfo&) {
  for (std::uint64_t line = 1;; ++line) guest::print("line ", line, "\n");
}
