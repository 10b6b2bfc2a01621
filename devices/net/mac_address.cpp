// SPDX-License-Identifier: Apache-2.0
#include "devices/net/mac_address.h"

#include <charconv>
#include <cstdio>

#include "vmm/base/errors.h"

namespace hum {

std::string MacAddress::text() const {
  std::array<char, 18> text{};
  std::snprintf(text.data(), text.size(), "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2],
                bytes[3], bytes[4], bytes[5]);
  return text.data();
}

MacAddress parse_mac_address(std::string_view what, std::string_view text) {
  const auto refuse = [&](const std::string& problem) {
    throw ConfigError(std::string(what), std::string(text), problem,
                      "give a unicast address like 52:54:00:12:34:56");
  };
  MacAddress address;
  if (text.size() != 17) refuse("not a MAC address");
  for (std::size_t at = 0; at < 6; ++at) {
    const char* const digits = text.data() + 3 * at;
    const auto [end, error] = std::from_chars(digits, digits + 2, address.bytes[at], 16);
    if (error != std::errc() || end != digits + 2 || (at != 5 && *end != ':' && *end != '-'))
      refuse("not a MAC address");
  }
  if (address.is_multicast()) refuse("a multicast address, which no interface can have");
  if (address.is_zero()) refuse("all zeros, which no interface can have");
  return address;
}

// FNV-1a, 64 bits, and a finalizer that spreads every bit of the seed over the result: no secret hangs on it.
MacAddress derived_mac_address(std::string_view seed) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char each : seed) hash = (hash ^ static_cast<std::uint8_t>(each)) * 0x100000001b3;
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccd;
  hash ^= hash >> 33;
  MacAddress address;
  for (std::size_t at = 0; at < 6; ++at) address.bytes[at] = static_cast<std::uint8_t>(hash >> (8 * at));
  address.bytes[0] = static_cast<std::uint8_t>((address.bytes[0] & 0xfc) | 0x02);
  return address;
}

}  // namespace hum
