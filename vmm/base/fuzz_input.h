// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

// For fuzz targets only.
namespace hum::testing {

// What a fuzzer has made up, taken piece by piece; zeroes behind its end.
class FuzzInput {
 public:
  explicit FuzzInput(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  std::uint64_t number(std::size_t size) {
    std::uint64_t value = 0;
    for (; size != 0 && !bytes_.empty(); --size, bytes_ = bytes_.subspan(1)) value = value << 8 | bytes_[0];
    return value;
  }
  std::vector<std::byte> bytes(std::size_t size) {
    std::vector<std::byte> taken(size);
    const std::size_t count = std::min(size, bytes_.size());
    if (count != 0) std::memcpy(taken.data(), bytes_.data(), count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace hum::testing
