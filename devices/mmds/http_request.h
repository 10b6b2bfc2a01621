// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hum {

// A request of HTTP/1.0 or 1.1 (RFC 9112) as its sender wrote it; of its body nothing is kept.
struct HttpRequest {
  std::string method;
  std::string target;
  bool is_http_1_0 = false;
  bool keep_alive = true;
  std::vector<std::pair<std::string, std::string>> fields;

  // The first one of that name, whatever its case; null: there is none.
  const std::string* field(std::string_view name) const;
};

// With its body.
inline constexpr std::size_t most_request_bytes = 4096;

struct HttpReading {
  enum class Outcome : std::uint8_t { whole, part, malformed };
  Outcome outcome = Outcome::part;
  std::size_t bytes = 0;  // whole: of the request
  HttpRequest request{};
};

// Reads the request that text begins with. One that is larger than most_request_bytes is malformed.
HttpReading read_http_request(std::string_view text);

}  // namespace hum
