// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"

using namespace guest;

namespace {

constinit volatile std::uint32_t count = 0;

}  // namespace

// The local APIC's timer in periodic mode goes on by itself, counts down in between, and stops when it is
// masked; CPUID promises that it never stops otherwise.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint8_t tick_vector = 35;
  constexpr std::uint32_t divide_by_16 = 0x3;
  constexpr std::uint32_t periodic = 1 << 17;
  constexpr std::uint32_t masked = 1 << 16;
  constexpr std::uint32_t interval = 200'000;
  check(1, (cpuid(6).eax & 1 << 2) != 0, "CPUID: the timer always runs");
  enable_local_apic();
  set_interrupt_handler(tick_vector, [] { count = count + 1; });
  write_local_apic(LocalApic::timer_divide, divide_by_16);
  write_local_apic(LocalApic::timer, periodic | tick_vector);
  write_local_apic(LocalApic::timer_initial, interval);
  while (count < 5) wait_for_interrupt();
  const auto left = [] { return read_local_apic(LocalApic::timer_current); };
  check(2, left() <= interval && wait_until([&] { return left() > 0; }), "it counts on");
  write_local_apic(LocalApic::timer, periodic | masked | tick_vector);
  enable_interrupts();
  let_pass(5'000'000);
  const std::uint32_t before = count;
  let_pass(20'000'000);
  check(3, count == before, "none while it is masked");
  return 0;
}
