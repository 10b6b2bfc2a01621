// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/processors.h"
#include "guest-tests/runtime/serial.h"

using namespace guest;

namespace {

constexpr std::uint8_t pin_vector = 41;
constinit volatile bool ready = false;
constinit volatile std::uint32_t count = 0;
constinit volatile std::uint32_t served_by = 0;

void processor() {
  ready = true;
  while (true) wait_for_interrupt();
}

}  // namespace

// A pin's interrupt goes to the processor that its entry names, be that the first or another. Needs 2
// processors.
std::uint32_t guest_main(const BootInfo&) {
  enable_local_apic();
  const Processors processors = find_processors();
  check(1, processors.count == 2, "two processors");
  set_interrupt_handler(pin_vector, [] {
    served_by = local_apic_id();
    count = count + 1;
  });
  start_processors(processors, processor);
  check(2, wait_until([] { return ready; }), "the other processor runs");
  enable_interrupts();
  for (std::uint32_t round = 0; round < 4; ++round) {
    const std::uint32_t target = processors.apic_ids[round % 2];
    route_pin(serial_pin, pin_vector, target);
    serial::raise_interrupt();
    check(3, wait_until([&] { return count == round + 1; }), "an interrupt");
    check(4, served_by == target, "at its destination");
  }
  return 0;
}
