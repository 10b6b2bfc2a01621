// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"
#include "guest-tests/runtime/interrupts.h"

extern "C" {
extern const guest::EntryState entry_state;
extern guest::BootProtocol boot_protocol;
[[noreturn]] void boot_main();
}

namespace guest {
namespace {

constinit BootInfo info{};

Text text_at(std::uint64_t address) {
  return {reinterpret_cast<const char*>(address)};
}

void set_command_line(std::uint64_t address) {
  if (address == 0) return;
  const Text given = text_at(address);
  const std::size_t size = given.size() < sizeof(info.text) ? given.size() : sizeof(info.text);
  __builtin_memcpy(info.text, given.begin(), size);
  info.command_line = {info.text, size};
}

void add_memory(std::uint64_t base, std::uint64_t size, std::uint32_t type) {
  if (info.memory_count < BootInfo::max_ranges) info.memory[info.memory_count++] = {base, size, type};
}

void add_module(std::uint64_t address, std::uint64_t size, std::uint64_t command_line) {
  if (info.module_count == BootInfo::max_modules) return;
  info.modules[info.module_count++] = {address, size, command_line != 0 ? text_at(command_line) : Text()};
}

// Xen's struct hvm_start_info (arch-x86/hvm/start_info.h), version 1.
void read_pvh(std::uint64_t start) {
  set_command_line(read<std::uint64_t>(start + 24));
  info.rsdp = read<std::uint64_t>(start + 32);
  const auto modules = read<std::uint32_t>(start + 12);
  const auto module_list = read<std::uint64_t>(start + 16);
  for (std::uint32_t i = 0; i < modules; ++i) {
    const std::uint64_t entry = module_list + i * 32;
    add_module(read<std::uint64_t>(entry), read<std::uint64_t>(entry + 8), read<std::uint64_t>(entry + 16));
  }
  if (read<std::uint32_t>(start + 4) < 1) return;
  const auto map = read<std::uint64_t>(start + 40);
  const auto entries = read<std::uint32_t>(start + 48);
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::uint64_t entry = map + i * 24;
    add_memory(read<std::uint64_t>(entry), read<std::uint64_t>(entry + 8), read<std::uint32_t>(entry + 16));
  }
}

// Multiboot specification 0.6.96, section 3.3.
void read_multiboot(std::uint64_t start) {
  constexpr std::uint32_t has_command_line = 1 << 2;
  constexpr std::uint32_t has_modules = 1 << 3;
  constexpr std::uint32_t has_memory_map = 1 << 6;
  const auto flags = read<std::uint32_t>(start);
  if ((flags & has_command_line) != 0) set_command_line(read<std::uint32_t>(start + 16));
  if ((flags & has_modules) != 0) {
    const auto modules = read<std::uint32_t>(start + 20);
    const std::uint64_t list = read<std::uint32_t>(start + 24);
    for (std::uint32_t i = 0; i < modules; ++i) {
      const std::uint64_t entry = list + i * 16;
      const auto begin = read<std::uint32_t>(entry);
      add_module(begin, read<std::uint32_t>(entry + 4) - begin, read<std::uint32_t>(entry + 8));
    }
  }
  if ((flags & has_memory_map) != 0) {
    const std::uint64_t map = read<std::uint32_t>(start + 48);
    const std::uint64_t end = map + read<std::uint32_t>(start + 44);
    for (std::uint64_t entry = map; entry < end; entry += read<std::uint32_t>(entry) + 4) {
      add_memory(read<std::uint64_t>(entry + 4), read<std::uint64_t>(entry + 12),
                 read<std::uint32_t>(entry + 20));
    }
  }
}

// Linux, Documentation/arch/x86/zero-page.rst.
void read_zero_page(std::uint64_t page) {
  set_command_line(read<std::uint32_t>(page + 0x228) | std::uint64_t{read<std::uint32_t>(page + 0x0c8)}
                                                           << 32);
  info.rsdp = read<std::uint64_t>(page + 0x070);
  const auto initrd = read<std::uint32_t>(page + 0x218);
  if (initrd != 0) add_module(initrd, read<std::uint32_t>(page + 0x21c), 0);
  const auto entries = read<std::uint8_t>(page + 0x1e8);
  for (unsigned i = 0; i < entries; ++i) {
    const std::uint64_t entry = page + 0x2d0 + i * 20;
    add_memory(read<std::uint64_t>(entry), read<std::uint64_t>(entry + 8), read<std::uint32_t>(entry + 16));
  }
}

}  // namespace

const BootInfo& boot_info() {
  return info;
}

Text BootInfo::option(Text key) const {
  Text rest = command_line;
  while (!rest.empty()) {
    const Text word = rest.before(' ');
    const Text name = word.before('=');
    if (name == key) return word.after(name.size() + 1);
    rest = rest.after(word.size() + 1);
  }
  return {};
}

}  // namespace guest

void boot_main() {
  using guest::BootProtocol;
  guest::info.protocol = boot_protocol;
  guest::info.entry = entry_state;
  guest::info.raw = boot_protocol == BootProtocol::linux64 ? entry_state.rsi : entry_state.rbx;
  guest::load_interrupt_table();
  switch (boot_protocol) {
    case BootProtocol::pvh:
      guest::read_pvh(guest::info.raw);
      break;
    case BootProtocol::multiboot:
      guest::read_multiboot(guest::info.raw);
      break;
    case BootProtocol::linux64:
      guest::read_zero_page(guest::info.raw);
      break;
  }
  guest::finish(guest_main(guest::info));
}
