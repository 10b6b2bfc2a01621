// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"

using namespace guest;

// Leaves with exit=N by a write of width=1, 2 or 4 bytes to the exit port; the ports beside it do not end the
// machine.
std::uint32_t guest_main(const BootInfo& boot) {
  const auto code = static_cast<std::uint32_t>(parse_number(boot.option("exit")));
  const std::uint64_t width = parse_number(boot.option("width"));
  for (std::uint16_t port = exit_port + 1; port < exit_port + 4; ++port) out8(port, 0);
  in32(exit_port);
  if (width == 1) out8(exit_port, static_cast<std::uint8_t>(code));
  if (width == 2) out16(exit_port, static_cast<std::uint16_t>(code));
  if (width == 4) out32(exit_port, code);
  finish(1, "still running");
}
