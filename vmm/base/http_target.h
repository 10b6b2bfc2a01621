// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string_view>

namespace hum {

// The path with the query of a request's target; of the absolute form (RFC 9112, 3.2.2) what is behind the
// authority. Empty: there is none.
inline std::string_view path_in_target(std::string_view target) {
  constexpr std::string_view scheme = "http://";
  if (target.starts_with(scheme)) {
    target.remove_prefix(scheme.size());
    target.remove_prefix(std::min(target.find('/'), target.size()));
  }
  return target.starts_with('/') ? target : std::string_view();
}

}  // namespace hum
