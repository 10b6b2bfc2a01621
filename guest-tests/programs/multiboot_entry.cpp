// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The multiboot (version 1) protocol. arg=value must be in the command line, modules=N is the number of
// modules expected; the first module must begin with module=TEXT if that is given.
std::uint32_t guest_main(const BootInfo& boot) {
  print("hello from multiboot, command line: ", boot.command_line, "\n");
  check(1, boot.protocol == BootProtocol::multiboot, "entered by the multiboot entry point");
  check(2, boot.entry.rax == 0x2badb002, "loader magic in eax");
  constexpr std::uint32_t wanted = 1 << 0 | 1 << 2 | 1 << 6;
  check(3, (read<std::uint32_t>(boot.raw) & wanted) == wanted, "flags: memory, command line, memory map");
  const auto lower = read<std::uint32_t>(boot.raw + 4);
  const auto upper = read<std::uint32_t>(boot.raw + 8);
  print("memory: ", std::uint64_t{lower}, " KiB below 1 MiB, ", std::uint64_t{upper}, " KiB above\n");
  check(4, lower >= 512 && lower <= 640, "mem_lower");
  bool upper_matches = false;
  for (unsigned i = 0; i < boot.memory_count; ++i) {
    const MemoryRange& range = boot.memory[i];
    const std::uint64_t end = range.base + range.size;
    upper_matches |=
        range.type == MemoryRange::ram && range.base <= 0x100000 && (end - 0x100000) >> 10 == upper;
  }
  check(5, upper_matches, "mem_upper agrees with the memory map");
  check(6, boot.option("arg") == "value", "command line has arg=value");
  check(7, boot.module_count == parse_number(boot.option("modules")), "number of modules");
  const Text start = boot.option("module");
  if (!start.empty()) {
    const BootModule& module = boot.modules[0];
    const Text content(reinterpret_cast<const char*>(module.address), module.size);
    check(8, content.starts_with(start), "content of the first module");
    check(9, module.address % 4096 == 0, "modules begin on a page");
  }
  return 0;
}
