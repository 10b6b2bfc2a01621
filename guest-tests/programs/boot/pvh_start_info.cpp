// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// Every field of Xen's hvm_start_info. With module=TEXT the last module's command line is TEXT.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, read<std::uint32_t>(boot.raw + 4) == 1, "version");
  check(2, read<std::uint32_t>(boot.raw + 8) == 0, "flags: no privileged domain");
  check(3, read<std::uint32_t>(boot.raw + 52) == 0, "reserved word");
  check(4, boot.rsdp >= 0xe0000 && boot.rsdp < 0x100000 && boot.rsdp % 16 == 0, "RSDP");
  const auto map = read<std::uint64_t>(boot.raw + 40);
  std::uint64_t end = 0;
  for (unsigned i = 0; i < boot.memory_count; ++i) {
    check(5, boot.memory[i].base >= end, "the memory map ascends");
    check(6, boot.memory[i].type >= 1 && boot.memory[i].type <= 5, "a known type of memory");
    check(7, read<std::uint32_t>(map + i * 24 + 20) == 0, "reserved word of the map");
    end = boot.memory[i].base + boot.memory[i].size;
  }
  const Text text = boot.option("module");
  if (text.empty()) return 0;
  check(8, boot.module_count > 0, "a module");
  const BootModule& module = boot.modules[boot.module_count - 1];
  check(9, module.command_line == text, "command line of the module");
  check(10, module.address >= 0x100000 && module.size > 0, "place and size of the module");
  return 0;
}
