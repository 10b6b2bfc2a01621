// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/pvh.h"

#include <vector>

#include "vmm/base/endian.h"
#include "vmm/boot/low_memory.h"

namespace hum::boot {
namespace {

struct WireStartInfo {
  le32 magic = 0x336ec578u;
  le32 version = 1u;
  le32 flags;
  le32 module_count;
  le64 modules;
  le64 command_line;
  le64 acpi_rsdp;
  le64 memory_map;
  le32 memory_map_entries;
  le32 reserved;
};
static_assert(sizeof(WireStartInfo) == 56);

struct WireModule {
  le64 address;
  le64 size;
  le64 command_line;
  le64 reserved;
};
static_assert(sizeof(WireModule) == 32);

struct WireMapEntry {
  le64 address;
  le64 size;
  le32 type;
  le32 reserved;
};
static_assert(sizeof(WireMapEntry) == 24);

}  // namespace

GuestAddress write_start_info(const GuestMemory& memory, const StartInfo& contents) {
  TableArea area(memory, low_memory::start_info, low_memory::start_info_end);
  WireStartInfo info;

  std::vector<WireMapEntry> map;
  for (const MemoryMapEntry& entry : contents.memory_map)
    map.push_back({entry.range.begin.value, entry.range.size, static_cast<std::uint32_t>(entry.type), 0u});
  info.memory_map = area.add_table(map).value;
  info.memory_map_entries = static_cast<std::uint32_t>(map.size());

  std::vector<WireModule> modules;
  for (const LoadedModule& each : contents.modules) {
    const std::uint64_t text = each.text.empty() ? 0 : area.add_text(each.text).value;
    modules.push_back({each.range.begin.value, each.range.size, text, std::uint64_t{0}});
  }
  if (!modules.empty()) info.modules = area.add_table(modules).value;
  info.module_count = static_cast<std::uint32_t>(modules.size());

  info.command_line = contents.command_line.value;
  info.acpi_rsdp = contents.acpi_rsdp;
  return area.add(bytes_of(info));
}

}  // namespace hum::boot
