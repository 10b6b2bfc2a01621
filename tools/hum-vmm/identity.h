// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>

#include "vmm/base/errors.h"

namespace hum {

// The version that clients of the dialect are told.
inline constexpr std::string_view dialect_version = "1.14.0";

// The name of a VM, which is a file name and a cgroup's, too. Throws ConfigError.
inline void check_instance_id(const std::string& id) {
  constexpr std::size_t longest = 64;
  const bool good = !id.empty() && id.size() <= longest && std::all_of(id.begin(), id.end(), [](char each) {
    return std::isalnum(static_cast<unsigned char>(each)) != 0 || each == '-';
  });
  if (!good) throw ConfigError("--id", id, "not accepted", "give 1 to 64 letters, digits and '-'");
}

}  // namespace hum
