// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"

using namespace guest;

namespace {

constinit volatile std::uint32_t count = 0;

void tick() {
  count = count + 1;
}

}  // namespace

// The local APIC's timer wakes a halted processor: one-shot, then by TSC deadline where CPUID offers that.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint8_t vector = 34;
  constexpr std::uint32_t divide_by_1 = 0xb;
  constexpr std::uint32_t deadline_mode = 2 << 17;
  constexpr std::uint32_t deadline_msr = 0x6e0;
  enable_local_apic();
  set_interrupt_handler(vector, tick);
  write_local_apic(LocalApic::timer_divide, divide_by_1);
  write_local_apic(LocalApic::timer, vector);
  write_local_apic(LocalApic::timer_initial, 1'000'000);
  while (count == 0) wait_for_interrupt();
  print("one-shot timer\n");
  check(1, count == 1, "the one-shot timer fires once");
  check(2, read_local_apic(LocalApic::timer_current) == 0, "its count has run out");

  if ((cpuid(1).ecx & 1 << 24) != 0) {
    write_local_apic(LocalApic::timer, deadline_mode | vector);
    const std::uint64_t deadline = read_tsc() + 2'000'000;
    write_msr(deadline_msr, deadline);
    while (count == 1) wait_for_interrupt();
    print("TSC deadline\n");
    check(3, read_tsc() >= deadline, "the deadline timer fires no earlier than asked");
    check(4, count == 2, "the deadline timer fires once");
  }
  return 0;
}
