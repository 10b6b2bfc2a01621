// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/session_tokens.h"

#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>

#include "vmm/base/big_endian.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::string_view digits = "0123456789abcdef";

}  // namespace

SessionTokens::SessionTokens(Now now) : now_(std::move(now)), start_(now_()) {
  if (::getrandom(key_.data(), key_.size(), 0) != static_cast<ssize_t>(key_.size()))
    throw HostError(errno, "draw a key");
}

std::string SessionTokens::make(std::chrono::seconds lifetime) const {
  std::string token;
  for (const std::byte each :
       seal(age() + static_cast<std::uint64_t>(std::chrono::nanoseconds(lifetime).count()))) {
    token += digits[std::to_integer<std::size_t>(each >> 4)];
    token += digits[std::to_integer<std::size_t>(each & std::byte{15})];
  }
  return token;
}

bool SessionTokens::valid(std::string_view token) const {
  Sealed given{};
  if (token.size() != 2 * given.size()) return false;
  for (std::size_t i = 0; i < token.size(); ++i) {
    const std::size_t digit = digits.find(token[i]);
    if (digit == std::string_view::npos) return false;
    given[i / 2] = given[i / 2] << 4 | static_cast<std::byte>(digit);
  }
  const std::uint64_t end = load_be(std::span(given).first(end_bytes));
  const Sealed own = seal(end);
  return ::nettle_memeql_sec(own.data(), given.data(), own.size()) != 0 && age() < end;
}

// In nanoseconds.
std::uint64_t SessionTokens::age() const {
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(now_() - start_).count());
}

SessionTokens::Sealed SessionTokens::seal(std::uint64_t end) const {
  Sealed sealed{};
  const std::span all(sealed);
  store_be(all.first(end_bytes), end);
  hmac_sha256_ctx context;
  ::nettle_hmac_sha256_set_key(&context, key_.size(), key_.data());
  ::nettle_hmac_sha256_update(&context, end_bytes, reinterpret_cast<const std::uint8_t*>(all.data()));
  ::nettle_hmac_sha256_digest(&context, mac_bytes,
                              reinterpret_cast<std::uint8_t*>(all.subspan(end_bytes).data()));
  return sealed;
}

}  // namespace hum
