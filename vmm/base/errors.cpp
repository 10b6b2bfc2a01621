// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/errors.h"

namespace hum {
namespace {

std::string with_fix(std::string text, const std::string& fix) {
  if (!fix.empty()) text += "; " + fix;
  return text;
}

}  // namespace

ConfigError::ConfigError(std::string key, std::string value, const std::string& problem,
                         const std::string& fix)
    : std::runtime_error(with_fix(key + (value.empty() ? "" : " '" + value + "'") + ": " + problem, fix)),
      key_(std::move(key)),
      value_(std::move(value)) {}

// what() of a system_error ends in the error's text, so the fix is carried by the operation's words.
HostError::HostError(int error_number, const std::string& tried, const std::string& fix)
    : std::system_error(error_number, std::generic_category(),
                        "cannot " + tried + (fix.empty() ? "" : " (" + fix + ")")) {}

}  // namespace hum
