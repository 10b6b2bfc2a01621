// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"
#include "guest-tests/runtime/processors.h"

using namespace guest;

namespace {

constinit volatile std::uint32_t done = 0;
constinit volatile std::uint32_t failed = 0;

// The number of the first register that is not as promised, 0 if all are.
std::uint32_t find_fault(bool first_processor) {
  constexpr std::uint64_t boot_processor = 1 << 8;
  constexpr std::uint64_t enabled = 1 << 11;
  const std::uint64_t apic_base = read_msr(0x1b);
  if ((apic_base & ~0xfffull) != local_apic_base || (apic_base & enabled) == 0) return 3;
  if (((apic_base & boot_processor) != 0) != first_processor) return 4;
  if ((read_msr(0xc0000080) & 0xd01) != 0x500) return 5;  // EFER: long mode alone
  if (read_msr(0x277) != 0x0007040600070406) return 6;    // PAT, as after a reset
  if ((read_msr(0x2ff) & 0xcff) != 0x806) return 7;       // MTRRs on, write-back by default
  if ((read_msr(0x1a0) & 1) != 1) return 8;               // fast strings
  return 0;
}

void processor() {
  const std::uint32_t fault = find_fault(false);
  if (fault != 0) failed = fault;
  __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
}

}  // namespace

// Model-specific registers that a kernel takes for granted, on every processor. cpus=N.
std::uint32_t guest_main(const BootInfo& boot) {
  const std::uint32_t fault = find_fault(true);
  check(fault, fault == 0, "on the first processor");
  enable_local_apic();
  const Processors processors = find_processors();
  check(1, processors.count == parse_number(boot.option("cpus"), 1), "number of processors");
  start_processors(processors, processor);
  check(2, wait_until([&] { return done == processors.count - 1; }), "every processor answers");
  check(failed, failed == 0, "on another processor");
  return 0;
}
