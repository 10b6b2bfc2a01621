// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nettle/sha2.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace hum {

// SHA-256 of what is added piece by piece. A value.
class Sha256 {
 public:
  Sha256() { ::sha256_init(&context_); }

  void add(std::span<const std::byte> bytes) {
    ::sha256_update(&context_, bytes.size(), reinterpret_cast<const std::uint8_t*>(bytes.data()));
  }
  // "sha256:" and 64 hexadecimal digits; begins anew.
  std::string finish() {
    std::array<std::uint8_t, SHA256_DIGEST_SIZE> sum{};
    ::sha256_digest(&context_, sum.size(), sum.data());
    std::string text = "sha256:";
    for (const std::uint8_t byte : sum) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    return text;
  }

 private:
  sha256_ctx context_;
};

inline std::string sha256_of(std::string_view text) {
  Sha256 sum;
  sum.add(std::as_bytes(std::span(text)));
  return sum.finish();
}

// Whether it is as finish writes it.
inline bool is_sha256(std::string_view text) {
  constexpr std::string_view begin = "sha256:";
  return text.size() == begin.size() + 2 * SHA256_DIGEST_SIZE && text.starts_with(begin) &&
         text.find_first_not_of("0123456789abcdef", begin.size()) == std::string_view::npos;
}

}  // namespace hum
