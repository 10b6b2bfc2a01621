// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"
#include "guest-tests/runtime/processors.h"

using namespace guest;

namespace {

struct Seen {
  std::uint32_t apic_id;
  std::uint32_t leaf1_id;
  std::uint32_t leaf11_id;
  std::uint32_t leaf11_type;
};

constinit volatile std::uint32_t arrived = 0;
constinit Seen seen[max_processors]{};

void record(std::uint32_t place) {
  const CpuidResult topology = cpuid(0xb);
  seen[place] = {local_apic_id(), cpuid(1).ebx >> 24, topology.edx, topology.ecx >> 8 & 0xff};
}

void processor() {
  static constinit std::uint32_t places = 1;
  record(__atomic_fetch_add(&places, 1, __ATOMIC_SEQ_CST));
  __atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
}

}  // namespace

// Starts every processor of the MADT; each counts itself, and its APIC id agrees with CPUID leaves 1 and 0xb.
// cpus=N is the number expected.
std::uint32_t guest_main(const BootInfo& boot) {
  enable_local_apic();
  const Processors processors = find_processors();
  check(1, processors.count > 0, "processors in the MADT");
  check(7, processors.count == parse_number(boot.option("cpus"), 1), "number of processors in the MADT");
  record(0);
  start_processors(processors, processor);
  const bool all = wait_until([&] { return arrived == processors.count - 1; });
  print("started ", std::uint64_t{arrived}, " of ", std::uint64_t{processors.count - 1}, "\n");
  check(2, all, "every processor started");
  const bool has_topology = cpuid(0).eax >= 0xb;
  for (unsigned i = 0; i < processors.count; ++i) {
    unsigned times = 0;
    for (unsigned j = 0; j < processors.count; ++j)
      times += seen[j].apic_id == processors.apic_ids[i] ? 1 : 0;
    check(3, times == 1, "each APIC id of the MADT belongs to one processor");
    check(4, seen[i].leaf1_id == (seen[i].apic_id & 0xff), "APIC id in CPUID leaf 1");
    if (!has_topology) continue;
    check(5, seen[i].leaf11_id == seen[i].apic_id, "x2APIC id in CPUID leaf 0xb");
    check(6, seen[i].leaf11_type == 1, "CPUID leaf 0xb begins with the thread level");
  }
  return 0;
}
