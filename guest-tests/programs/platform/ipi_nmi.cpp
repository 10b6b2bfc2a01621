// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/processors.h"

using namespace guest;

namespace {

constinit std::uint32_t first_processor = 0;
constinit volatile std::uint32_t received = 0;

void processor() {
  for (std::uint32_t sent = 0; sent < 3; ++sent) {
    send_command(first_processor, command::nmi);
    while (received == sent) pause();
  }
}

}  // namespace

// Non-maskable interrupts from another processor arrive although interrupts are off, one after the other.
// Needs 2 processors.
std::uint32_t guest_main(const BootInfo&) {
  enable_local_apic();
  first_processor = local_apic_id();
  const Processors processors = find_processors();
  check(1, processors.count == 2, "two processors");
  set_interrupt_handler(vector::nmi, [] { received = received + 1; });
  disable_interrupts();
  start_processors(processors, processor);
  check(2, wait_until([] { return received == 3; }), "three NMIs");
  return 0;
}
