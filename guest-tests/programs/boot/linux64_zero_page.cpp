// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The zero page and the setup header in it (boot.rst): what a loader has to fill in, and nothing where it has
// nothing to say.
std::uint32_t guest_main(const BootInfo& boot) {
  const auto page = boot.raw;
  check(1, page % 4096 == 0, "the zero page lies on a page boundary");
  check(2, read<std::uint16_t>(page + 0x206) >= 0x020c, "protocol version");
  check(3, read<std::uint8_t>(page + 0x210) == 0xff, "type of a loader without a number");
  check(4, (read<std::uint8_t>(page + 0x211) & 1) != 0, "load flags: the kernel is above 1 MiB");
  check(5, read<std::uint64_t>(page + 0x250) == 0, "no setup data");
  check(6, boot.rsdp != 0, "RSDP");
  check(7, read<std::uint8_t>(page + 0x1e8) == boot.memory_count && boot.memory_count >= 3, "e820 map");
  std::uint64_t end = 0;
  for (unsigned i = 0; i < boot.memory_count; ++i) {
    check(8, boot.memory[i].base >= end, "the e820 map ascends");
    end = boot.memory[i].base + boot.memory[i].size;
  }
  check(9, read<std::uint8_t>(page + 0x1e9) == 0, "no EDD entries");
  check(10, boot.command_line == "one two=2", "command line");
  return 0;
}
