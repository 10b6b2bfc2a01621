// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/processors.h"

using namespace guest;

namespace {

constinit volatile std::uint32_t done = 0;
constinit volatile std::uint32_t failed = 0;
constinit std::uint32_t count = 0;

// The number of the first thing that is wrong with what CPUID says on this processor, 0 if nothing is.
std::uint32_t find_fault() {
  const std::uint32_t id = local_apic_id();
  const CpuidResult features = cpuid(1);
  if (features.ebx >> 24 != id) return 3;
  const std::uint32_t ids = features.ebx >> 16 & 0xff;
  if (count > 1 && ((features.edx & 1 << 28) == 0 || ids < count)) return 4;
  if (cpuid(0).eax < 0xb) return 5;
  const CpuidResult thread = cpuid(0xb, 0);
  const CpuidResult core = cpuid(0xb, 1);
  if (thread.edx != id || core.edx != id) return 6;
  if ((thread.ecx >> 8 & 0xff) != 1 || (thread.ebx & 0xffff) != 1 || (thread.eax & 31) != 0) return 7;
  if ((core.ecx >> 8 & 0xff) != 2 || (core.ebx & 0xffff) != count) return 8;
  const std::uint32_t shift = core.eax & 31;
  if (id >> shift != 0 || 1u << shift < count) return 9;
  const CpuidResult cache = cpuid(4);
  if ((cache.eax & 31) != 0 && (cache.eax >> 26) + 1 < count) return 10;
  return 0;
}

void processor() {
  const std::uint32_t fault = find_fault();
  if (fault != 0) failed = fault;
  __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
}

}  // namespace

// CPUID's leaves 1, 4 and 0xb describe one package of cores with one thread each on every processor. cpus=N.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  const Processors processors = find_processors();
  count = processors.count;
  check(1, count == parse_number(boot.option("cpus"), 1), "number of processors");
  processor();
  check(failed, failed == 0, "CPUID of the first processor");
  start_processors(processors, processor);
  check(2, wait_until([] { return done == count; }), "every processor answers");
  check(failed, failed == 0, "CPUID of another processor");
  return 0;
}
