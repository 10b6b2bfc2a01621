// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/acpi.h"
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

namespace {

// The place of a byte sequence between two addresses, 0 if it is not there.
std::uint64_t find_bytes(std::uint64_t begin, std::uint64_t end, Text bytes) {
  for (; begin + bytes.size() <= end; ++begin) {
    if (Text(reinterpret_cast<const char*>(begin), bytes.size()) == bytes) return begin;
  }
  return 0;
}

}  // namespace

// The DSDT: one scope \_SB that ends with the table, and in it the serial port (PNP0501) with ports 0x3f8 to
// 0x3ff and interrupt 4.
std::uint32_t guest_main(const BootInfo&) {
  const std::uint64_t dsdt = find_table("DSDT");
  check(1, dsdt != 0, "DSDT");
  const std::uint64_t end = dsdt + table_size(dsdt);
  const std::uint64_t name = find_bytes(dsdt + 36, end, Text("\\_SB_"));
  check(2, name != 0, "scope \\_SB");
  // ACPI 6.5, 20.2.4: two bits of the first byte tell how many follow, with eight bits each above its low
  // four.
  const auto package_at = [](std::uint64_t at, unsigned bytes) {
    std::uint64_t size = read<std::uint8_t>(at) & 0xf;
    for (unsigned i = 1; i < bytes; ++i) size |= std::uint64_t{read<std::uint8_t>(at + i)} << (8 * i - 4);
    return at + size;
  };
  bool ends_with_table = false;
  for (unsigned bytes = 1; bytes <= 4; ++bytes) {
    const std::uint64_t at = name - bytes;
    const bool is_scope = read<std::uint8_t>(at - 1) == 0x10 && read<std::uint8_t>(at) >> 6 == bytes - 1;
    ends_with_table |= is_scope && (bytes == 1 ? at + read<std::uint8_t>(at) : package_at(at, bytes)) == end;
  }
  check(3, ends_with_table, "length of the scope");
  const std::uint64_t port = find_bytes(name, end, Text("\x0c\x41\xd0\x05\x01", 5));
  check(4, port != 0, "serial port");
  constexpr std::uint64_t node = 64;
  check(5, find_bytes(port, port + node, Text("\x47\x01\xf8\x03\xf8\x03\x01\x08", 8)) != 0, "its ports");
  const std::uint64_t interrupt = find_bytes(port, port + node, Text("\x89\x06\x00", 3));
  check(6, interrupt != 0 && read<std::uint32_t>(interrupt + 5) == 4, "its interrupt");
  return 0;
}
