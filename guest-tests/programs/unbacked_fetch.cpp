// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/layout.h"

// Runs into an address with nothing behind it, which KVM cannot emulate: KVM_EXIT_INTERNAL_ERROR.
std::uint32_t guest_main(const guest::BootInfo&) {
  guest::print("unbacked fetch\n");
  asm volatile("jmp *%0" : : "r"(guest::unbacked_address));
  guest::finish(1, "still running");
}
