// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/endian.h"

#include <array>

#include "vmm/base/testing.h"

namespace hum {

TEST_CASE("little-endian integers keep every value and lie in memory low byte first") {
  const le16 small = 0x1234;
  const le32 middle = 0x12345678;
  const le64 large = 0xfedcba9876543210;
  CHECK(small == 0x1234);
  CHECK(middle == 0x12345678u);
  CHECK(large == 0xfedcba9876543210u);
  CHECK(bytes_of(small)[0] == std::byte{0x34});
  CHECK(bytes_of(large)[7] == std::byte{0xfe});
  CHECK(le32() == 0u);
}

TEST_CASE("a register value is loaded from 0 to 8 bytes with zeros above") {
  std::array<std::byte, 9> bytes;
  bytes.fill(std::byte{0xa5});
  CHECK(load_le(std::span(bytes).first(0)) == 0);
  CHECK(load_le(std::span(bytes).first(1)) == 0xa5);
  CHECK(load_le(std::span(bytes).first(4)) == 0xa5a5a5a5);
  CHECK(load_le(std::span(bytes).first(8)) == 0xa5a5a5a5a5a5a5a5);
  CHECK(load_le(bytes) == 0xa5a5a5a5a5a5a5a5);
}

TEST_CASE("a register value is stored by its low bytes and nothing outside is touched") {
  std::array<std::byte, 4> bytes;
  bytes.fill(std::byte{0xee});
  store_le(std::span(bytes).subspan(1, 2), 0x11223344);
  CHECK(bytes == std::array{std::byte{0xee}, std::byte{0x44}, std::byte{0x33}, std::byte{0xee}});
  store_le(std::span(bytes).first(0), UINT64_MAX);
  CHECK(bytes[0] == std::byte{0xee});
}

TEST_CASE("a register value stored to more than 8 bytes is followed by zeros") {
  std::array<std::byte, 10> bytes;
  bytes.fill(std::byte{0xee});
  store_le(bytes, UINT64_MAX);
  CHECK(bytes[7] == std::byte{0xff});
  CHECK(bytes[8] == std::byte{0});
  CHECK(bytes[9] == std::byte{0});
}

TEST_CASE("the bytes of an object are the object") {
  std::uint32_t word = 1;
  CHECK(bytes_of(word).size() == 4);
  writable_bytes_of(word)[3] = std::byte{0x80};
  CHECK(word == 0x80000001);
}

}  // namespace hum
