// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The PVH boot protocol (Xen's hvm_start_info, version 1). arg=value must be in the command line, modules=N
// is the number of modules expected, acpi=off says that no RSDP is.
std::uint32_t guest_main(const BootInfo& boot) {
  print("hello from pvh, command line: ", boot.command_line, "\n");
  check(1, boot.protocol == BootProtocol::pvh, "entered by the PVH entry point");
  check(2, read<std::uint32_t>(boot.raw) == 0x336ec578, "start info magic");
  check(3, read<std::uint32_t>(boot.raw + 4) >= 1, "start info version with a memory map");
  check(4, boot.memory_count > 0, "memory map");
  std::uint64_t ram = 0;
  bool own_code = false;
  for (unsigned i = 0; i < boot.memory_count; ++i) {
    const MemoryRange& range = boot.memory[i];
    if (range.type != MemoryRange::ram) continue;
    ram += range.size;
    const std::uint64_t here = address_of(&boot);
    own_code |= range.base <= here && here - range.base < range.size;
  }
  print("RAM: ", ram >> 10, " KiB\n");
  check(5, own_code, "the image lies in RAM of the memory map");
  check(6, boot.option("arg") == "value", "command line has arg=value");
  check(7, boot.module_count == parse_number(boot.option("modules")), "number of modules");
  if (boot.option("acpi") != "off") {
    check(8, boot.rsdp != 0, "address of the RSDP");
    check(9, read<std::uint64_t>(boot.rsdp) == 0x2052545020445352, "RSDP signature");
  }
  return 0;
}
