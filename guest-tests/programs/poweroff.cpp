// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"

using namespace guest;

// Switches the machine off by ACPI; being alive afterwards is a failure.
std::uint32_t guest_main(const BootInfo&) {
  print("power off\n");
  power_off();
  finish(1, "still running");
}
