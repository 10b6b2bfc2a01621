// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/zero_page.h"

#include <algorithm>
#include <array>
#include <cassert>

#include "vmm/base/endian.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/low_memory.h"

namespace hum::boot {
namespace {

constexpr std::size_t acpi_rsdp = 0x070;
constexpr std::size_t initrd_address_high = 0x0c0;
constexpr std::size_t initrd_size_high = 0x0c4;
constexpr std::size_t e820_count = 0x1e8;
constexpr std::size_t boot_flag = 0x1fe;
constexpr std::size_t magic = 0x202;
constexpr std::size_t protocol_version = 0x206;
constexpr std::size_t type_of_loader = 0x210;
constexpr std::size_t load_flags = 0x211;
constexpr std::size_t code32_start = 0x214;
constexpr std::size_t initrd_address = 0x218;
constexpr std::size_t initrd_size = 0x21c;
constexpr std::size_t command_line_address = 0x228;
constexpr std::size_t e820_table = 0x2d0;
constexpr std::size_t e820_entry_size = 20;

constexpr std::uint64_t loader_without_number = 0xff;
constexpr std::uint64_t loaded_high = 1;

class Page {
 public:
  void put(std::size_t offset, std::size_t size, std::uint64_t value) {
    store_le(std::span(bytes_).subspan(offset, size), value);
  }
  void put_bytes(std::size_t offset, std::span<const std::byte> bytes) {
    std::copy(bytes.begin(), bytes.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  std::uint64_t get(std::size_t offset, std::size_t size) const {
    return load_le(std::span(bytes_).subspan(offset, size));
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::array<std::byte, 4096> bytes_{};
};

}  // namespace

void write_zero_page(const GuestMemory& memory, const ZeroPage& contents) {
  assert(contents.memory_map.size() <= memory_map_capacity);
  Page page;
  if (contents.setup_header.empty()) {
    page.put(boot_flag, 2, 0xaa55);
    page.put(magic, 4, 0x53726448);  // "HdrS"
    page.put(protocol_version, 2, 0x020f);
  } else {
    page.put_bytes(BzImage::header_begin, contents.setup_header);
  }
  page.put(type_of_loader, 1, loader_without_number);
  page.put(load_flags, 1, page.get(load_flags, 1) | loaded_high);
  page.put(code32_start, 4, contents.kernel_address);
  page.put(command_line_address, 4, contents.command_line.value);
  page.put(acpi_rsdp, 8, contents.acpi_rsdp);
  page.put(initrd_address, 4, contents.initrd.begin.value);
  page.put(initrd_address_high, 4, contents.initrd.begin.value >> 32);
  page.put(initrd_size, 4, contents.initrd.size);
  page.put(initrd_size_high, 4, contents.initrd.size >> 32);
  std::size_t at = e820_table;
  for (const MemoryMapEntry& entry : contents.memory_map) {
    page.put(at, 8, entry.range.begin.value);
    page.put(at + 8, 8, entry.range.size);
    page.put(at + 16, 4, static_cast<std::uint32_t>(entry.type));
    at += e820_entry_size;
  }
  page.put(e820_count, 1, contents.memory_map.size());
  memory.write_bytes(low_memory::zero_page, page.bytes());
}

}  // namespace hum::boot
