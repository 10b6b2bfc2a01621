// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// What --limit takes, for help: "cpu=PERCENT, weight=N, ...".
std::string limit_help();

// The limits of a VM as the daemon takes them, of texts like "cpu=150" and "memory=600M". Throws ConfigError.
nlohmann::json limits_of(const std::vector<std::string>& texts);

}  // namespace hum
