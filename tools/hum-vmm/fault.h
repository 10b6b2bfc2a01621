// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace hum {

// The body of an answer that says what was wrong, as clients expect it.
std::string fault_body(std::string_view text);

}  // namespace hum
