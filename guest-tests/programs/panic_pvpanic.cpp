// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"

using namespace guest;

// Reports a panic to the pvpanic port; being alive two seconds later is a failure.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint8_t panicked = 1;
  check(2, (in8(panic_port) & panicked) != 0 && in8(panic_port) != 0xff, "pvpanic offers the panic event");
  print("panic\n");
  out8(panic_port, panicked);
  wait_until([] { return false; }, 2);
  finish(1, "still running");
}
