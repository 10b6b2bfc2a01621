// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <vector>

#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr Field bucket_fields[] = {
    {.name = "size", .type = FieldType::integer, .required = true, .maximum = UINT64_MAX},
    {.name = "refill_time", .type = FieldType::integer, .required = true, .maximum = UINT64_MAX},
    {.name = "one_time_burst", .type = FieldType::integer, .maximum = UINT64_MAX},
};
constexpr Field limiter_fields[] = {
    {.name = "bandwidth", .type = FieldType::bucket, .key = "bandwidth"},
    {.name = "ops", .type = FieldType::bucket, .key = "ops"},
};

constexpr std::size_t longest_shown = 64;
constexpr int most_levels = 128;

// A value as an error shows it: never more than a little of it.
std::string shown(const json& value) {
  std::string text = value.is_string() ? value.get<std::string>()
                                       : value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > longest_shown) text = text.substr(0, longest_shown) + "...";
  return text;
}

// Our word for one of the choices, if it is one.
std::optional<std::string_view> word_of(std::string_view choices, std::string_view text) {
  while (!choices.empty()) {
    const std::string_view row = choices.substr(0, choices.find('|'));
    choices.remove_prefix(std::min(choices.size(), row.size() + 1));
    const std::size_t equals = row.find('=');
    if (row.substr(0, equals) == text) return equals == std::string_view::npos ? row : row.substr(equals + 1);
  }
  return {};
}

std::string accepted_choices(std::string_view choices) {
  std::string text;
  while (!choices.empty()) {
    const std::string_view row = choices.substr(0, choices.find('|'));
    choices.remove_prefix(std::min(choices.size(), row.size() + 1));
    text += (text.empty() ? "" : " or ") + std::string(row.substr(0, row.find('=')));
  }
  return text;
}

[[noreturn]] void refuse(const std::string& name, const json& value, const std::string& accepted) {
  throw ConfigError(name, shown(value), "not accepted", "give " + accepted);
}

json checked_value(const std::string& name, const Field& field, const json& value) {
  switch (field.type) {
    case FieldType::text:
      if (!value.is_string()) refuse(name, value, "a text");
      if (value.get_ref<const std::string&>().find('\0') != std::string::npos)
        refuse(name, value, "a text without zero bytes");
      break;
    case FieldType::boolean:
      if (!value.is_boolean()) refuse(name, value, "true or false");
      break;
    case FieldType::integer:
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() < field.minimum ||
          value.get<std::uint64_t>() > field.maximum)
        refuse(
            name, value,
            "a whole number from " + std::to_string(field.minimum) + " to " + std::to_string(field.maximum));
      break;
    case FieldType::choice:
      if (!value.is_string() || !word_of(field.choices, value.get_ref<const std::string&>()))
        refuse(name, value, accepted_choices(field.choices));
      break;
    case FieldType::texts:
      if (!value.is_array() ||
          !std::all_of(value.begin(), value.end(), [](const json& each) { return each.is_string(); }))
        refuse(name, value, "a list of texts");
      break;
    case FieldType::texts_by_name:
      if (!value.is_object() ||
          !std::all_of(value.begin(), value.end(), [](const json& each) { return each.is_string(); }))
        refuse(name, value, "an object whose values are texts");
      break;
    case FieldType::values:
      if (!value.is_object() || !std::all_of(value.begin(), value.end(), [](const json& each) {
            return each.is_string() || each.is_number_unsigned() || each.is_boolean();
          }))
        refuse(name, value, "an object whose values are texts, whole numbers, true or false");
      break;
    case FieldType::objects:
      if (!value.is_array() ||
          !std::all_of(value.begin(), value.end(), [](const json& each) { return each.is_object(); }))
        refuse(name, value, "a list of objects");
      break;
    case FieldType::limiter:
      return checked_fields(name, limiter_fields, value);
    case FieldType::bucket:
      return checked_fields(name, bucket_fields, value);
  }
  return value;
}

// Either being 0 means: no limit.
std::string bucket_text(const json& bucket) {
  const auto size = bucket["size"].get<std::uint64_t>();
  const auto refill = bucket["refill_time"].get<std::uint64_t>();
  if (size == 0 || refill == 0) return "off";
  const auto burst = bucket.value("one_time_burst", std::uint64_t{0});
  return std::to_string(size) + "/" + std::to_string(refill) +
         (burst == 0 ? "" : "+" + std::to_string(burst));
}

}  // namespace

json parse_json(std::string_view text) {
  std::vector<std::set<std::string>> names;
  std::string twice;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > most_levels)
      throw ConfigError("body", "",
                        "more than " + std::to_string(most_levels) + " objects and lists in each other");
    if (event == json::parse_event_t::object_start) names.emplace_back();
    if (event == json::parse_event_t::object_end) names.pop_back();
    if (event == json::parse_event_t::key && !names.back().insert(parsed.get<std::string>()).second)
      twice = parsed.get<std::string>();
    return true;
  };
  // Which the parser takes for the end.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos)
    throw ConfigError("body", "", "no JSON, at byte " + std::to_string(zero + 1));
  try {
    json parsed = json::parse(text, watch);
    if (!twice.empty()) throw ConfigError("body", shown(twice), "is there twice", "give each field once");
    return parsed;
  } catch (const json::parse_error& error) {
    throw ConfigError("body", "", "no JSON, at byte " + std::to_string(error.byte));
  } catch (const json::out_of_range&) {
    throw ConfigError("body", "", "a number is too large for any field");
  }
}

json checked_fields(std::string_view what, std::span<const Field> table, const json& value) {
  const auto full_name = [&](std::string_view name) { return std::string(what) + "." + std::string(name); };
  if (!value.is_object()) refuse(std::string(what), value, "an object");
  json checked = json::object();
  for (const auto& [name, each] : value.items()) {
    const std::string_view given = name;
    const auto field = std::find_if(table.begin(), table.end(), [given](const Field& row) {
      return row.name == given || (!row.alias.empty() && row.alias == given);
    });
    if (field == table.end()) {
      std::string known;
      for (const Field& row : table) known += (known.empty() ? "" : ", ") + std::string(row.name);
      throw ConfigError(full_name(shown(name)), "", "unknown field", "known are: " + known);
    }
    if (each.is_null()) continue;
    if (checked.contains(field->name))
      throw ConfigError(full_name(field->name), shown(each), "is there twice",
                        "give it as " + std::string(field->name) + " only");
    checked[std::string(field->name)] = checked_value(full_name(field->name), *field, each);
  }
  for (const Field& row : table)
    if (row.required && !checked.contains(row.name))
      throw ConfigError(full_name(row.name), "", "missing field", "give it");
  return checked;
}

ConfigError in_fields(std::string_view what, std::span<const Field> table, const ConfigError& error) {
  const std::size_t point = error.key().rfind('.');
  if (point == std::string::npos) return error;
  const std::string_view option = std::string_view(error.key()).substr(point + 1);
  const auto renamed = [&](const std::string& field) -> ConfigError {
    const std::string value = error.value().empty() ? "" : " '" + error.value() + "'";
    const std::size_t problem = error.key().size() + value.size() + 2;  // behind ": "
    return {std::string(what) + "." + field, error.value(), std::string(error.what()).substr(problem)};
  };
  for (const Field& row : table) {
    const std::string name(row.name);
    if (row.type == FieldType::limiter) {
      for (const Field& bucket : limiter_fields)
        if (option == std::string(row.key) + std::string(bucket.key))
          return renamed(name + "." + std::string(bucket.name));
    } else if (!row.key.empty() && row.key == option) {
      return renamed(name);
    }
  }
  return error;
}

std::string escaped_option(std::string_view value) {
  std::string result;
  for (const char each : value) result += each == ',' ? std::string(",,") : std::string(1, each);
  return result;
}

bool has_deprecated(std::span<const Field> table, const json& checked) {
  return std::any_of(table.begin(), table.end(),
                     [&](const Field& row) { return row.deprecated && checked.contains(row.name); });
}

std::string option_text(std::span<const Field> table, const json& checked) {
  std::string text;
  const auto add = [&](const std::string& key, const std::string& value) {
    text += (text.empty() ? "" : ",") + key + "=" + value;
  };
  for (const Field& row : table) {
    if (!checked.contains(row.name)) continue;
    const std::string key(row.key);
    const json& value = checked[std::string(row.name)];
    if (row.type == FieldType::limiter) {
      for (const Field& bucket : limiter_fields)
        if (value.contains(bucket.name))
          add(key + std::string(bucket.key), bucket_text(value[std::string(bucket.name)]));
    } else if (key.empty()) {
      continue;
    } else if (row.type == FieldType::boolean) {
      add(key, value.get<bool>() ? "on" : "off");
    } else if (row.type == FieldType::integer) {
      add(key, std::to_string(value.get<std::uint64_t>()) + std::string(row.unit));
    } else if (row.type == FieldType::choice) {
      add(key, std::string(*word_of(row.choices, value.get_ref<const std::string&>())));
    } else if (row.type == FieldType::bucket) {
      add(key, bucket_text(value));
    } else if (row.type == FieldType::text) {
      add(key, escaped_option(value.get_ref<const std::string&>()));
    }
  }
  return text;
}

}  // namespace hum
