// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"

using namespace guest;

namespace {

constinit volatile std::uint32_t order[4] = {};
constinit volatile std::uint32_t count = 0;

void note(std::uint32_t which) {
  if (count < 4) order[count] = which;
  count = count + 1;
}

}  // namespace

// x2APIC: interrupts that a processor sends to itself arrive once each when they are let in, the highest
// vector first.
std::uint32_t guest_main(const BootInfo&) {
  constexpr std::uint32_t self_ipi = 0x83f;
  constexpr std::uint8_t low = 34, middle = 47, high = 60;
  check(1, (cpuid(1).ecx & 1 << 21) != 0, "CPUID offers x2APIC");
  enable_local_apic();
  set_interrupt_handler(low, [] { note(low); });
  set_interrupt_handler(middle, [] { note(middle); });
  set_interrupt_handler(high, [] { note(high); });
  write_msr(self_ipi, middle);
  write_msr(self_ipi, low);
  write_msr(self_ipi, high);
  write_msr(self_ipi, high);  // pending already
  check(2, count == 0, "none while interrupts are off");
  enable_interrupts();
  check(3, wait_until([] { return count >= 3; }), "three interrupts");
  disable_interrupts();
  check(4, count == 3 && order[0] == high && order[1] == middle && order[2] == low, "by priority, once each");
  return 0;
}
