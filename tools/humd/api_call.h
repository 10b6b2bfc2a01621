// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tools/humd/api.h"

// What the API's functions have in common.
namespace hum {

struct Api::Call {
  ApiRequest request;
  std::vector<std::string> parts;  // of the path behind the version: "vms", "web", "start"
};

inline constexpr int most_listed = 1000;
inline constexpr std::uint64_t longest_wait = 3600;  // seconds

std::string dumped(const nlohmann::json& value);
// Of a request, whose body may be left out. Throws ConfigError.
nlohmann::json body_of(const ApiRequest& request);

inline ApiAnswer ok(std::string body) {
  return {.status = 200, .body = std::move(body)};
}

inline TimePoint in_seconds(std::uint64_t seconds) {
  return std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
}

inline Caller caller_of(const ApiRequest& request) {
  return {.user = request.peer,
          .key = request.idempotency_key,
          .what = request.method + ' ' + request.path + '?' + request.query + ' ' + request.body};
}

}  // namespace hum
