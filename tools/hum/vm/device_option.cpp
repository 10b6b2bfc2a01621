// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/device_option.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "devices/registry.h"
#include "vmm/base/errors.h"
#include "vmm/base/options.h"

namespace hum {

using nlohmann::json;

std::string path_from(const std::string& folder, const std::string& path) {
  return (std::filesystem::path(folder) / path).lexically_normal().string();
}

json device_of(const std::string& kind, const std::string& name, const std::string& text,
               const std::string& folder) {
  const auto kinds = all_devices();
  const auto found =
      std::find_if(kinds.begin(), kinds.end(), [&](const auto* each) { return each->name == kind; });
  if (found == kinds.end())
    throw ConfigError("device", kind, "no kind of device", "'hum devices' lists them");
  const OptionValues values = OptionValues::parse(kind, (*found)->options, text);
  json options = json::object();
  for (const OptionSpec& row : (*found)->options) {
    const auto value = values.written(row.key);
    if (!value || *value == row.default_value) continue;
    const bool is_path =
        row.key == "path" || row.key == "overlay" || row.key == "socket" || row.key == "pcap";
    options[std::string(row.key)] = is_path && *value != "tmp" ? path_from(folder, *value) : *value;
  }
  return {{"name", name}, {"kind", kind}, {"options", options}};
}

json device_of(const std::string& text, std::size_t number, const std::string& folder) {
  const std::size_t comma = std::min(text.find(','), text.size());
  const std::string kind = text.substr(0, comma);
  return device_of(kind, kind + std::to_string(number), text.substr(std::min(comma + 1, text.size())),
                   folder);
}

}  // namespace hum
