// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

// An exception with no interrupt table: the processor shuts down.
std::uint32_t guest_main(const guest::BootInfo&) {
  guest::print("triple fault\n");
  const std::uint16_t empty_table[5] = {};
  asm volatile("lidt %0; ud2" : : "m"(empty_table));
  guest::finish(1, "still running");
}
