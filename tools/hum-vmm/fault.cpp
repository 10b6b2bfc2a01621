// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/fault.h"

#include <nlohmann/json.hpp>

namespace hum {

std::string fault_body(std::string_view text) {
  return nlohmann::json{{"fault_message", text}}.dump(-1, ' ', false,
                                                      nlohmann::json::error_handler_t::replace);
}

}  // namespace hum
