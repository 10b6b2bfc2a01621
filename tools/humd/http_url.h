// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace hum {

// The parts of an address of a file on a server. A value.
struct HttpUrl {
  // Throws ConfigError with the key: no http://, a user's name in it, what no host, port or path may have.
  static HttpUrl parse(const std::string& key, const std::string& text);
  // Where a server sends its client, from here. Throws the same.
  HttpUrl follow(const std::string& key, const std::string& location) const;

  // As in the header Host.
  std::string authority() const;
  std::string text() const { return "http://" + authority() + target; }

  std::string host;  // a name or an address, without brackets
  std::uint16_t port = 80;
  std::string target;  // with its query; begins with '/'
};

}  // namespace hum
