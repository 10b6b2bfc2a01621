// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The processor's state at the 64-bit Linux entry point (boot.rst, "64-bit boot protocol"): long mode with
// the loader's page tables, which map the first 4 GiB one to one.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint64_t present = 1;
  constexpr std::uint64_t large = 0x80;
  constexpr std::uint64_t address_bits = 0x000ffffffffff000;
  const EntryState& entry = boot.entry;
  check(1, (entry.cr0 & 0x80000001) == 0x80000001, "paging and protection are on");
  check(2, (entry.cr4 & 0x20) != 0, "CR4.PAE is set");
  check(3, (entry.efer & 0x500) == 0x500, "EFER.LME and LMA are set");
  check(4, (entry.rflags & 0x200) == 0, "interrupts are off");
  check(5, entry.cs == 0x10 && entry.ds == 0x18 && entry.es == 0x18 && entry.ss == 0x18, "selectors");
  for (std::uint64_t address = 0; address < 1ull << 32; address += 1ull << 25) {
    std::uint64_t table = entry.cr3;
    for (unsigned shift = 39; shift >= 21; shift -= 9) {
      table = read<std::uint64_t>((table & address_bits) + (address >> shift & 511) * 8);
      check(6, (table & present) != 0, "the first 4 GiB are mapped");
    }
    check(7, (table & large) != 0 && (table & address_bits & ~0xfffull) == address, "one to one");
  }
  return 0;
}
