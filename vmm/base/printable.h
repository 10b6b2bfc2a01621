// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace hum {

// What a file or the host says, kept from speaking to a terminal: no control characters, and of bytes above
// ASCII only those that can stand in UTF-8 and make no control character.
inline std::string printable(std::string text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto each = static_cast<unsigned char>(text[i]);
    const auto before = static_cast<unsigned char>(i == 0 ? 0 : text[i - 1]);
    const bool control = each < 0x20 || each == 0x7f || (each >= 0x80 && each < 0xa0 && before <= 0xc2);
    if (control) text[i] = '?';
  }
  return text;
}

}  // namespace hum
