// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The processor's state at the PVH entry point (Xen, docs/misc/pvh.pandoc): 32-bit protected mode without
// paging, flat segments that the GDT has too, interrupts off.
std::uint32_t guest_main(const BootInfo& boot) {
  const EntryState& entry = boot.entry;
  check(1, (entry.cr0 & 0x80000001) == 1, "CR0: protection on, paging off");
  check(2, entry.cr4 == 0, "CR4 is 0");
  check(3, (entry.rflags & 0x00020300) == 0, "EFLAGS: VM, IF and TF are clear");
  check(4, entry.efer == 0, "EFER is 0");
  const std::uint64_t gdt = entry.gdt_base[0] | std::uint64_t{entry.gdt_base[1]} << 16;
  const auto descriptor = [&](std::uint16_t selector) {
    check(5, selector != 0 && selector + 7 <= entry.gdt_limit, "the selectors lie in the GDT");
    return read<std::uint64_t>(gdt + selector);
  };
  check(6, (descriptor(entry.cs) & 0xffcffa000000ffff) == 0x00cf9a000000ffff, "cs: flat 32-bit code");
  const std::uint16_t data[] = {entry.ds, entry.es, entry.ss};
  for (const std::uint16_t selector : data)
    check(7, (descriptor(selector) & 0xffcffa000000ffff) == 0x00cf92000000ffff, "ds, es, ss: flat data");
  return 0;
}
