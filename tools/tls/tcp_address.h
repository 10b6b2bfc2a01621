// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// Where somebody listens. A value.
struct TcpAddress {
  // "127.0.0.1:8443", "[::1]:8443", "vm.example.org:8443". Throws ConfigError with the key.
  static TcpAddress parse(const std::string& key, std::string_view text);
  std::string text() const;

  std::string host{};  // a name or an address, without brackets
  std::uint16_t port = 0;
};

// What a host's name stands for, by getent, as a static program cannot load what the host resolves names
// with. Waits for it. Empty: there is no such host.
std::vector<boost::asio::ip::tcp::endpoint> endpoints_of(const std::string& host, std::uint16_t port);

}  // namespace hum
