// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/multiboot.h"

#include <algorithm>
#include <array>
#include <vector>

#include "vmm/base/endian.h"
#include "vmm/boot/low_memory.h"
#include "vmm/boot/text.h"

namespace hum::boot {
namespace {

constexpr std::uint32_t header_magic = 0x1badb002;
constexpr std::uint32_t header_required = 0xffff;  // flags a loader must know
// Modules on page boundaries, memory information; a video mode is only a wish.
constexpr std::uint32_t header_known = 0x7;
constexpr std::uint32_t header_has_addresses = 1u << 16;
constexpr std::size_t header_size = 12;
constexpr std::size_t header_size_with_addresses = 32;

constexpr std::uint32_t info_memory = 1u << 0;
constexpr std::uint32_t info_command_line = 1u << 2;
constexpr std::uint32_t info_modules = 1u << 3;
constexpr std::uint32_t info_memory_map = 1u << 6;
constexpr std::uint32_t info_loader_name = 1u << 9;

struct WireInfo {
  le32 flags;
  le32 memory_lower;  // KiB from 0 on
  le32 memory_upper;  // KiB from 1 MiB on
  le32 boot_device;
  le32 command_line;
  le32 module_count;
  le32 modules;
  std::array<le32, 4> symbols{};
  le32 memory_map_size;
  le32 memory_map;
  le32 drives_size;
  le32 drives;
  le32 configuration_table;
  le32 loader_name;
  le32 power_management;
  std::array<le32, 6> video{};
};
static_assert(sizeof(WireInfo) == 96);

struct WireModule {
  le32 begin;
  le32 end;
  le32 text;
  le32 reserved;
};
static_assert(sizeof(WireModule) == 16);

// The 64-bit fields lie on 4-byte boundaries, so they are written as halves.
struct WireMapEntry {
  le32 size_of_rest = 20u;
  le32 address_low;
  le32 address_high;
  le32 size_low;
  le32 size_high;
  le32 type;
};
static_assert(sizeof(WireMapEntry) == 24);

le32 low(std::uint64_t value) {
  return static_cast<std::uint32_t>(value);
}
le32 high(std::uint64_t value) {
  return static_cast<std::uint32_t>(value >> 32);
}

// KiB of usable memory from an address on, up to the first hole.
std::uint64_t usable_kib(MemoryMap map, std::uint64_t from) {
  std::uint64_t end = from;
  for (const MemoryMapEntry& entry : map)
    if (entry.type == MemoryType::usable && entry.range.begin.value <= end)
      end = std::max(end, entry.range.begin.value + entry.range.size);
  return (end - from) >> 10;
}

std::uint32_t word(std::span<const std::byte> bytes, std::size_t offset) {
  return static_cast<std::uint32_t>(load_le(bytes.subspan(offset, 4)));
}

}  // namespace

std::optional<MultibootHeader> MultibootHeader::find(std::span<const std::byte> head) {
  head = head.first(std::min(head.size(), multiboot_search_size));
  for (std::size_t at = 0; at + header_size <= head.size(); at += 4) {
    if (word(head, at) != header_magic) continue;
    MultibootHeader header{at, word(head, at + 4), std::nullopt};
    if (header_magic + header.flags + word(head, at + 8) != 0) continue;
    if ((header.flags & header_has_addresses) == 0) return header;
    if (head.size() - at < header_size_with_addresses) continue;
    header.addresses = Addresses{word(head, at + 12), word(head, at + 16), word(head, at + 20),
                                 word(head, at + 24), word(head, at + 28)};
    return header;
  }
  return std::nullopt;
}

void MultibootHeader::check_requirements(const BootFile& file) const {
  if ((flags & header_required & ~header_known) != 0)
    file.fail("its multiboot header requires features that are not offered (flags " + hexadecimal(flags) +
                  "; known are bits 0, 1, 2 and 16)",
              "build it without them");
}

SegmentSet MultibootHeader::segments(const BootFile& file) const {
  const std::uint64_t load = addresses->load;
  const std::uint64_t before_header = std::uint64_t{addresses->header} - load;
  if (addresses->header < load || before_header > offset)
    file.fail("its multiboot header is wrong: it says it is at " + hexadecimal(addresses->header) +
                  ", the image begins at " + hexadecimal(load) + ", but it is found at byte " +
                  std::to_string(offset),
              "correct header_addr and load_addr");
  const std::uint64_t file_offset = offset - before_header;
  const std::uint64_t load_end =
      addresses->load_end != 0 ? addresses->load_end : load + (file.size() - file_offset);
  const std::uint64_t bss_end = addresses->bss_end != 0 ? addresses->bss_end : load_end;
  if (load_end <= load || bss_end < load_end)
    file.fail("its multiboot header is wrong: load_addr, load_end_addr and bss_end_addr do not ascend",
              "correct these fields");
  SegmentSet set;
  set.add(file, file.size(), {file_offset, load_end - load, {load}, bss_end - load, load});
  return set;
}

GuestAddress write_multiboot_info(const GuestMemory& memory, const MultibootInfo& contents) {
  TableArea area(memory, low_memory::multiboot_info, low_memory::multiboot_info_end);
  WireInfo info;
  info.flags = info_memory | info_command_line | info_modules | info_memory_map | info_loader_name;
  info.memory_lower = low(std::min<std::uint64_t>(usable_kib(contents.memory_map, 0), 640));
  info.memory_upper = low(usable_kib(contents.memory_map, 1 << 20));
  info.command_line = low(contents.command_line.value);
  info.loader_name = low(area.add_text("hummingbird").value);

  std::vector<WireMapEntry> map;
  for (const auto& [range, type] : contents.memory_map)
    map.push_back({20u, low(range.begin.value), high(range.begin.value), low(range.size), high(range.size),
                   static_cast<std::uint32_t>(type)});
  info.memory_map = low(area.add_table(map).value);
  info.memory_map_size = static_cast<std::uint32_t>(map.size() * sizeof(WireMapEntry));

  std::vector<WireModule> modules;
  for (const auto& [range, text] : contents.modules)
    modules.push_back(
        {low(range.begin.value), low(range.begin.value + range.size), low(area.add_text(text).value), 0u});
  info.modules = low(area.add_table(modules).value);
  info.module_count = static_cast<std::uint32_t>(modules.size());
  return area.add(bytes_of(info));
}

}  // namespace hum::boot
