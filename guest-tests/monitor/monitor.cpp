// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/monitor/commands.h"
#include "guest-tests/monitor/line_editor.h"
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"

using namespace guest;

// A small system to look at a machine from the inside, for when there is no kernel to boot. It sleeps unless
// there is input.
std::uint32_t guest_main(const BootInfo&) {
  enable_local_apic();
  begin_input();
  print(
      "Hummingbird monitor: a built-in guest, no kernel was given. Try help; leave with exit or Ctrl-A x.\n");
  begin_uptime();
  while (true) {
    print("> ");
    run_command(read_line());
  }
}
