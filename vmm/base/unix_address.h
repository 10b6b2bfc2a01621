// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <optional>
#include <string>

namespace hum {

// The address of a Unix socket that has a path, as bind(2) and connect(2) take it. A value.
class UnixAddress {
 public:
  static constexpr std::size_t longest_path = sizeof sockaddr_un{}.sun_path - 1;

  // Nothing where the path is empty or too long for an address.
  static std::optional<UnixAddress> at(const std::string& path);
  // Throws ConfigError with the key.
  static UnixAddress of(const std::string& key, const std::string& path);
  // "the path of a socket has 1 to 107 bytes"
  static std::string rule();

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address_); }
  socklen_t size() const { return sizeof address_; }

 private:
  sockaddr_un address_{};
};

}  // namespace hum
