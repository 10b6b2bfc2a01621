// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

// Never ends: sleeps for ever, or with method=busy runs for ever.
std::uint32_t guest_main(const guest::BootInfo& boot) {
  guest::print("hang\n");
  while (boot.option("method") == "busy") guest::pause();
  guest::stop();
}
