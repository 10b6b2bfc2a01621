// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/limit_option.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tools/hum/vm/size_option.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

struct Limit {
  std::string_view key;
  std::string_view value;  // as help has it
  const char* field;       // the daemon's
  bool is_size;            // told in MiB
};

constexpr Limit known[] = {
    {"cpu", "PERCENT", "cpu_percent", false}, {"weight", "N", "cpu_weight", false},
    {"memory", "SIZE", "memory_mib", true},   {"pids", "N", "pids", false},
    {"read", "SIZE", "read_mib_s", true},     {"write", "SIZE", "write_mib_s", true},
    {"read-ops", "N", "read_ops", false},     {"write-ops", "N", "write_ops", false},
};

std::uint64_t number_of(const Limit& limit, const std::string& text) {
  const std::string key = "limit " + std::string(limit.key);
  if (limit.is_size) return mib_of(key, text);
  std::string_view digits = text;
  if (limit.key == "cpu" && digits.ends_with('%')) digits.remove_suffix(1);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size())
    throw ConfigError(key, text, "no whole number", "give one above 0");
  return number;
}

}  // namespace

std::string limit_help() {
  std::string text;
  for (const Limit& each : known)
    text += (text.empty() ? "" : ", ") + std::string(each.key) + "=" + std::string(each.value);
  return text;
}

nlohmann::json limits_of(const std::vector<std::string>& texts) {
  nlohmann::json limits = nlohmann::json::object();
  for (const std::string& text : texts) {
    const std::size_t equals = std::min(text.find('='), text.size());
    const auto found = std::find_if(std::begin(known), std::end(known), [&](const Limit& each) {
      return each.key == std::string_view(text).substr(0, equals);
    });
    if (found == std::end(known) || equals == text.size())
      throw ConfigError("limit", text, "no limit", "give one of " + limit_help());
    limits[found->field] = number_of(*found, text.substr(equals + 1));
  }
  return limits;
}

}  // namespace hum
