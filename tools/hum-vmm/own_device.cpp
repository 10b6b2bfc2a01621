// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/own_device.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <utility>

#include "devices/net/net_kind.h"
#include "devices/registry.h"
#include "devices/test_device.h"
#include "tools/hum-vmm/fields.h"
#include "tools/hum-vmm/sections.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr std::size_t longest_name = 63;
constexpr std::size_t longest_shown = 64;

bool is_platform(const DeviceKind& kind) {
  return std::holds_alternative<DeviceKind::PlatformFactory>(kind.create);
}

// Those of the dialect's devices, and those that a machine's other devices get: "serial0".
bool is_reserved(std::string_view name) {
  const auto is_section = [&](const Section* each) { return each->name == name; };
  const auto is_numbered = [&](const DeviceKind* kind) {
    if (!is_platform(*kind) || !name.starts_with(kind->name)) return false;
    const std::string_view number = name.substr(kind->name.size());
    return !number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos;
  };
  return std::any_of(sections::all().begin(), sections::all().end(), is_section) ||
         std::any_of(all_devices().begin(), all_devices().end(), is_numbered);
}

void check_name(const std::string& name) {
  const auto is_letter = [](unsigned char each) { return std::isalnum(each) != 0; };
  const bool good = !name.empty() && name.size() <= longest_name &&
                    is_letter(static_cast<unsigned char>(name.front())) &&
                    std::all_of(name.begin(), name.end(), [&](unsigned char each) {
                      return is_letter(each) || each == '.' || each == '_' || each == '-';
                    });
  if (!good)
    throw ConfigError("hum-devices.name", name.substr(0, longest_shown), "not accepted",
                      "give at most 63 letters, digits, '.', '_' and '-', a letter or digit first");
  if (is_reserved(name))
    throw ConfigError("hum-devices.name", name, "is the name of another device", "give another");
}

const DeviceKind& kind_named(const std::string& name) {
  std::string known;
  for (const DeviceKind* each : all_devices()) {
    if (each == &test_device_kind) continue;
    if (each->name == name) return *each;
    known += (known.empty() ? "" : ", ") + std::string(each->name);
  }
  throw ConfigError("hum-devices.kind", name.substr(0, longest_shown),
                    name == test_device_kind.name ? "makes system calls that hum-vmm's threads may not make"
                                                  : "unknown kind of device",
                    "known are " + known);
}

std::string value_text(const std::string& key, const json& value) {
  if (value.is_boolean()) return value.get<bool>() ? "on" : "off";
  if (value.is_number_unsigned()) return std::to_string(value.get<std::uint64_t>());
  if (!value.is_string() || value.get_ref<const std::string&>().find('\0') != std::string::npos)
    throw ConfigError(key,
                      value.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, longest_shown),
                      "not accepted", "give a text, a whole number, true or false");
  return value.get<std::string>();
}

struct Checked {
  DeviceConfig config;
  OptionValues values;
};

Checked checked_device(const json& element) {
  const auto& name = element["name"].get_ref<const std::string&>();
  check_name(name);
  const DeviceKind& kind = kind_named(element["kind"].get_ref<const std::string&>());
  const json options = element.value("options", json::object());
  DeviceConfig config{std::string(kind.name), own_option_text(name, kind.options, options), name};
  OptionValues values = OptionValues::parse(name, kind.options, config.options);
  if (&kind == &net_kind && starts_passt(values))
    throw ConfigError(name + ".mode", "user", "hum-vmm starts no other program",
                      "start passt (passt --socket PATH) and give socket=PATH, or give a tap");
  return {std::move(config), std::move(values)};
}

}  // namespace

DeviceConfig own_device(const json& checked) {
  return checked_device(checked).config;
}

DeviceOptions own_device_options(const json& checked) {
  Checked device = checked_device(checked);
  return {std::move(device.config.name), std::move(device.config.kind), std::move(device.values)};
}

void add_own_device(std::vector<DeviceConfig>& devices, DeviceConfig device) {
  const auto same = std::find_if(devices.begin(), devices.end(), [&](const DeviceConfig& each) {
    return each.kind == device.kind && each.name.empty();
  });
  if (same != devices.end())
    *same = std::move(device);
  else
    add_device(devices, std::move(device));
}

std::string own_option_text(std::string_view what, std::span<const OptionSpec> table, const json& options) {
  if (!options.is_object())
    throw ConfigError(std::string(what) + ".options", "", "no object", "give an object with options");
  std::string text;
  for (const auto& [key, value] : options.items()) {
    // Only what is an option's name may stand in option text.
    const std::string_view wanted = key;
    std::string known;
    for (const OptionSpec& row : table) known += (known.empty() ? "" : ", ") + std::string(row.key);
    if (std::none_of(table.begin(), table.end(), [&](const OptionSpec& row) { return row.key == wanted; }))
      throw ConfigError(std::string(what), key.substr(0, longest_shown), "unknown option",
                        known.empty() ? "it takes none" : "known are " + known);
    text += (text.empty() ? "" : ",") + key + "=" +
            escaped_option(value_text(std::string(what) + "." + key, value));
  }
  return text;
}

}  // namespace hum
