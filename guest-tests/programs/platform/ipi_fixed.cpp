// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"
#include "guest-tests/runtime/processors.h"

using namespace guest;

namespace {

constexpr std::uint8_t vector_of_call = 42;
constinit volatile std::uint32_t ready = 0;
constinit volatile std::uint32_t count = 0;
constinit volatile std::uint32_t answered = 0;

void processor() {
  __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
  while (true) wait_for_interrupt();
}

}  // namespace

// A fixed interrupt sent to one processor wakes that one and no other. cpus=N, at least 2.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  const Processors processors = find_processors();
  check(1, processors.count == parse_number(boot.option("cpus"), 2), "number of processors");
  set_interrupt_handler(vector_of_call, [] {
    answered = local_apic_id();
    __atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST);
  });
  start_processors(processors, processor);
  check(2, wait_until([&] { return ready == processors.count - 1; }), "every processor runs");
  std::uint32_t sent = 0;
  for (unsigned i = 0; i < processors.count; ++i) {
    if (processors.apic_ids[i] == local_apic_id()) continue;
    send_command(processors.apic_ids[i], vector_of_call);
    ++sent;
    check(3, wait_until([&] { return count == sent; }), "an interrupt");
    check(4, answered == processors.apic_ids[i], "at its destination");
  }
  return 0;
}
