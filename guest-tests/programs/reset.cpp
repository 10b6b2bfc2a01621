// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// Resets the machine, by the FADT's register or with method=keyboard by the keyboard controller's port; being
// alive afterwards is a failure.
std::uint32_t guest_main(const BootInfo& boot) {
  print("reset\n");
  if (boot.option("method") == "keyboard") {
    out8(0x64, 0xfe);
  } else {
    reset_by_acpi();
  }
  finish(1, "still running");
}
