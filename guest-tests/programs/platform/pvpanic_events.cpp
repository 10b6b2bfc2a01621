// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"

using namespace guest;

// The pvpanic port offers two events, and the one of a kernel that looks after its panic itself (2) does not
// end the machine.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint8_t panicked = 1, handled_by_guest = 2;
  check(1, in8(panic_port) == (panicked | handled_by_guest), "events");
  out8(panic_port, handled_by_guest);
  out8(panic_port, 0);
  check(2, in8(panic_port) == (panicked | handled_by_guest), "alive");
  return 0;
}
