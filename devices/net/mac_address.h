// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace hum {

// An Ethernet address (IEEE 802, 48 bits).
struct MacAddress {
  std::array<std::uint8_t, 6> bytes{};

  bool is_multicast() const { return (bytes[0] & 1) != 0; }  // broadcast, too
  bool is_broadcast() const { return *this == MacAddress{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}; }
  bool is_zero() const { return *this == MacAddress{}; }
  std::string text() const;  // "52:54:00:12:34:56"

  bool operator==(const MacAddress&) const = default;
};

// Reads six pairs of hexadecimal digits between colons or dashes. what names the option in the error. Throws
// ConfigError, also for a multicast address and for all zeros, which no interface can have.
MacAddress parse_mac_address(std::string_view what, std::string_view text);

// A locally administered unicast address that is always the same for a seed (a VM's id and the interface's
// number), and different for different seeds but for chance: 46 bits of a hash.
MacAddress derived_mac_address(std::string_view seed);

}  // namespace hum
