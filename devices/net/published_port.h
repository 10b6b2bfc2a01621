// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// A port of the host behind which a server in the guest stands.
struct PublishedPort {
  enum class Protocol : std::uint8_t { tcp, udp };

  std::string address;  // of the host; empty: all it has
  std::uint16_t host = 0;
  std::uint16_t guest = 0;
  Protocol protocol = Protocol::tcp;

  std::string text() const;  // "127.0.0.1:8080:80", "[::1]:53:53/udp"

  bool operator==(const PublishedPort&) const = default;
};

// Reads "[ADDRESS:]HOST:GUEST[/tcp|/udp]" (an IPv6 address in brackets), several of them joined by '+'. what
// names the option in the error. Throws ConfigError, also for a port of the host that is given twice.
std::vector<PublishedPort> parse_published_ports(std::string_view what, std::string_view text);

// Throws ConfigError where the host does not let this user listen at the port: it is in use, reserved, or
// the address is not the host's.
void check_port_is_free(std::string_view what, const PublishedPort& port);

}  // namespace hum
