// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/text.h"

#include <array>
#include <charconv>

namespace hum::boot {

std::string hexadecimal(std::uint64_t value) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, 16).ptr;
  return "0x" + std::string(digits.data(), end);
}

std::string format_memory(std::uint64_t bytes) {
  constexpr std::uint64_t mib = 1 << 20;
  return std::to_string(bytes / mib + (bytes % mib != 0 ? 1 : 0)) + "M";
}

}  // namespace hum::boot
