// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// The processor's state at a multiboot entry point (specification 0.6.96, 3.2), and the loader's name.
std::uint32_t guest_main(const BootInfo& boot) {
  const EntryState& entry = boot.entry;
  check(1, entry.rax == 0x2badb002, "eax");
  check(2, (entry.cr0 & 0x80000001) == 1, "CR0: protection on, paging off");
  check(3, (entry.rflags & 0x00020200) == 0, "EFLAGS: VM and IF are clear");
  constexpr std::uint32_t has_loader_name = 1 << 9;
  check(4, (read<std::uint32_t>(boot.raw) & has_loader_name) != 0, "flags: the loader's name");
  const Text name(reinterpret_cast<const char*>(std::uint64_t{read<std::uint32_t>(boot.raw + 64)}));
  print("loader: ", name, "\n");
  check(5, !name.empty(), "the loader's name");
  return 0;
}
