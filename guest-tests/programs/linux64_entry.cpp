// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The 64-bit Linux boot protocol (Documentation/arch/x86/boot.rst). arg=value must be in the command line,
// initrd=N is the size of the initrd expected.
std::uint32_t guest_main(const BootInfo& boot) {
  print("hello from linux64, command line: ", boot.command_line, "\n");
  check(1, boot.protocol == BootProtocol::linux64, "entered by the 64-bit entry point");
  check(2, read<std::uint16_t>(boot.raw + 0x1fe) == 0xaa55, "boot flag of the zero page");
  check(3, read<std::uint32_t>(boot.raw + 0x202) == 0x53726448, "header magic of the zero page");
  check(4, read<std::uint8_t>(boot.raw + 0x210) != 0, "type of loader");
  check(5, boot.memory_count > 0, "e820 map");
  std::uint64_t ram = 0;
  for (unsigned i = 0; i < boot.memory_count; ++i) {
    if (boot.memory[i].type == MemoryRange::ram) ram += boot.memory[i].size;
  }
  print("RAM: ", ram >> 10, " KiB\n");
  check(6, ram >= 1 << 20, "RAM in the e820 map");
  check(7, boot.option("arg") == "value", "command line has arg=value");
  const std::uint64_t initrd = boot.module_count != 0 ? boot.modules[0].size : 0;
  check(8, initrd == parse_number(boot.option("initrd")), "size of the initrd");
  return 0;
}
