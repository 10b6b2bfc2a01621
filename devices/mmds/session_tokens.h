// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace hum {

// Tokens that are valid for some time and that nobody else can make: the end of that time, and an HMAC of it
// (RFC 2104, with SHA-256) under a key that is drawn here and never leaves. Nothing is kept of them. Any
// thread.
class SessionTokens {
 public:
  using Clock = std::chrono::steady_clock;
  using Now = std::function<Clock::time_point()>;

  // Throws HostError.
  explicit SessionTokens(Now now);

  // Letters and digits.
  std::string make(std::chrono::seconds lifetime) const;
  bool valid(std::string_view token) const;

 private:
  static constexpr std::size_t end_bytes = 8;
  static constexpr std::size_t mac_bytes = 32;
  using Sealed = std::array<std::byte, end_bytes + mac_bytes>;

  std::uint64_t age() const;
  Sealed seal(std::uint64_t end) const;

  Now now_;
  Clock::time_point start_;  // what tokens count from: a guest need not learn the host's clock
  std::array<std::uint8_t, 32> key_;
};

}  // namespace hum
