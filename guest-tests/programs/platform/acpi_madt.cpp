// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/apic.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/layout.h"

using namespace guest;

// The MADT: cpus=N processors with ascending ids, one I/O APIC that is there, and the flag of two PICs with
// irqchip=kernel alone.
std::uint32_t guest_main(const BootInfo& boot) {
  const std::uint64_t madt = find_table("APIC");
  check(1, madt != 0, "MADT");
  check(2, read<std::uint32_t>(madt + 36) == local_apic_base, "address of the local APICs");
  const bool pics = boot.option("irqchip") == "kernel";
  check(3, read<std::uint32_t>(madt + 40) == (pics ? 1 : 0), "flags: PICs");
  const std::uint64_t end = madt + table_size(madt);
  std::uint64_t at = madt + 44;
  std::uint32_t processors = 0, io_apics = 0;
  while (at < end) {
    const auto type = read<std::uint8_t>(at);
    const auto size = read<std::uint8_t>(at + 1);
    check(4, size >= 2 && at + size <= end, "size of an entry");
    if (type == 0) {
      check(5, size == 8 && read<std::uint8_t>(at + 2) == processors, "number of a processor");
      check(6, read<std::uint8_t>(at + 3) == processors, "its APIC id");
      check(7, read<std::uint32_t>(at + 4) == 1, "it is enabled");
      ++processors;
    }
    if (type == 1) {
      check(8, size == 12 && read<std::uint32_t>(at + 4) == io_apic_base, "address of the I/O APIC");
      check(9, read<std::uint32_t>(at + 8) == 0, "its first interrupt");
      ++io_apics;
    }
    at += size;
  }
  check(10, at == end, "the entries fill the table");
  check(11, processors == parse_number(boot.option("cpus"), 1), "number of processors");
  check(12, io_apics == 1 && io_apic_pins() > 0, "one I/O APIC");
  return 0;
}
