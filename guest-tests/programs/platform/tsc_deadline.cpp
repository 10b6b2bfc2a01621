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

// TSC-deadline timer: offered, fires for a deadline that has passed, not for one that was taken back, and
// reads as 0 once it has fired.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint8_t deadline_vector = 36;
  constexpr std::uint32_t deadline_mode = 2 << 17;
  constexpr std::uint32_t deadline = 0x6e0;
  check(1, (cpuid(1).ecx & 1 << 24) != 0, "CPUID offers the TSC deadline");
  enable_local_apic();
  set_interrupt_handler(deadline_vector, [] { count = count + 1; });
  write_local_apic(LocalApic::timer, deadline_mode | deadline_vector);
  write_msr(deadline, read_tsc() - 1);
  enable_interrupts();
  check(2, wait_until([] { return count == 1; }), "a deadline in the past");
  check(3, read_msr(deadline) == 0, "no deadline once it has passed");
  std::uint64_t later = 0;
  std::uint64_t told = 0;
  do {
    count = 0;
    later = read_tsc() + 50'000'000;
    write_msr(deadline, later);
    told = read_msr(deadline);
    write_msr(deadline, 0);
  } while (read_tsc() >= later);  // again if this processor was away for that long
  check(4, told == later, "the deadline reads back");
  let_pass(60'000'000);
  check(5, count == 0, "none for a deadline that was taken back");
  return 0;
}
