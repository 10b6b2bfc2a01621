// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace hum {

// Rows of text under a head, each column as wide as its widest.
std::string text_table(const std::vector<std::string>& head,
                       const std::vector<std::vector<std::string>>& rows);

// "3 s", "5 min", "2 h", "4 d": how long ago a time of RFC 3339 in UTC was; "-" where it is none.
std::string age_of(const std::string& time, double now);

}  // namespace hum
