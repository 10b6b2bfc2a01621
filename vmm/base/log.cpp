// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/log.h"

namespace hum {

std::string_view to_string(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return "error";
    case LogLevel::warning:
      return "warning";
    case LogLevel::info:
      return "info";
    case LogLevel::debug:
      return "debug";
  }
  return "unknown";
}

}  // namespace hum
