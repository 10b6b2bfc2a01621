// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/processors.h"

using namespace guest;

namespace {

constexpr std::uint8_t vector_of_call = 43;
constinit volatile std::uint32_t ready = 0;
constinit volatile std::uint32_t count = 0;
constinit volatile std::uint32_t own = 0;

void processor() {
  __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
  while (true) wait_for_interrupt();
}

// Sends an interrupt by a shorthand and waits until `expected` have arrived in all; true if so many have, and
// `expected_own` of them here.
bool broadcast(std::uint32_t shorthand, std::uint32_t expected, std::uint32_t expected_own) {
  send_command(0, shorthand | vector_of_call);
  const bool arrived = wait_until([&] { return count == expected; });
  return arrived && own == expected_own;
}

}  // namespace

// Interrupts to all processors but the sender, to all, and to the sender alone. cpus=N.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  const Processors processors = find_processors();
  static constinit std::uint32_t sender = 0;
  sender = local_apic_id();
  set_interrupt_handler(vector_of_call, [] {
    if (local_apic_id() == sender) own = own + 1;
    __atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST);
  });
  start_processors(processors, processor);
  const auto others = static_cast<std::uint32_t>(parse_number(boot.option("cpus"), 1)) - 1;
  check(1, wait_until([&] { return ready == others; }), "every processor runs");
  enable_interrupts();
  check(2, broadcast(command::to_others, others, 0), "all but self");
  check(3, broadcast(command::to_all, 2 * others + 1, 1), "all");
  check(4, broadcast(command::to_self, 2 * others + 2, 2), "self");
  return 0;
}
