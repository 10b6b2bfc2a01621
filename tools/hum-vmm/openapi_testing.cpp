// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/openapi_testing.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <string_view>

namespace hum::testing {
namespace {

using nlohmann::json;

bool has_type(const json& value, std::string_view type) {
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  return type == value.type_name();
}

// Wide enough for all whole numbers of 64 bits.
long double number_of(const json& value) {
  return value.is_number_unsigned() ? static_cast<long double>(value.get<std::uint64_t>())
                                    : value.get<long double>();
}

bool is_time(const std::string& text) {
  static const std::regex form(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)");
  return std::regex_match(text, form);
}
bool is_ipv4(const std::string& text) {
  static const std::regex form(R"((\d{1,3}\.){3}\d{1,3})");
  return std::regex_match(text, form);
}

bool are_different(const json& list) {
  for (std::size_t i = 0; i < list.size(); ++i)
    for (std::size_t k = 0; k < i; ++k)
      if (list[i] == list[k]) return false;
  return true;
}

// The words that speak of a value alone, and not of others in it. One of another type than a word is for fits
// it.
using Word = std::function<bool(const json& wanted, const json& value)>;
const std::map<std::string, Word, std::less<>>& plain_words() {
  static const Word any = [](const json&, const json&) { return true; };
  static const std::map<std::string, Word, std::less<>> words = {
      {"description", any},
      {"examples", any},
      {"default", any},
      {"deprecated", any},
      {"type",
       [](const json& wanted, const json& value) {
         const json types = wanted.is_array() ? wanted : json::array({wanted});
         return std::any_of(types.begin(), types.end(), [&](const json& type) {
           return has_type(value, type.get_ref<const std::string&>());
         });
       }},
      {"const", [](const json& wanted, const json& value) { return value == wanted; }},
      {"enum",
       [](const json& wanted, const json& value) {
         return std::find(wanted.begin(), wanted.end(), value) != wanted.end();
       }},
      {"minimum",
       [](const json& wanted, const json& value) {
         return !value.is_number() || number_of(value) >= number_of(wanted);
       }},
      {"maximum",
       [](const json& wanted, const json& value) {
         return !value.is_number() || number_of(value) <= number_of(wanted);
       }},
      {"pattern",
       [](const json& wanted, const json& value) {
         return !value.is_string() ||
                std::regex_search(value.get<std::string>(), std::regex(wanted.get<std::string>()));
       }},
      {"maxLength",
       [](const json& wanted, const json& value) {
         return !value.is_string() || value.get_ref<const std::string&>().size() <= wanted;
       }},
      {"format",
       [](const json& wanted, const json& value) {
         if (!value.is_string()) return true;
         return wanted == "ipv4" ? is_ipv4(value) : wanted == "date-time" && is_time(value);
       }},
      {"minProperties", [](const json& wanted, const json& value) { return value.size() >= wanted; }},
      {"maxProperties", [](const json& wanted, const json& value) { return value.size() <= wanted; }},
      {"maxItems", [](const json& wanted, const json& value) { return value.size() <= wanted; }},
      {"uniqueItems",
       [](const json& wanted, const json& value) {
         return wanted == false || !value.is_array() || are_different(value);
       }},
      {"required",
       [](const json& wanted, const json& value) {
         return !value.is_object() || std::all_of(wanted.begin(), wanted.end(), [&](const json& name) {
           return value.contains(name.get<std::string>());
         });
       }},
  };
  return words;
}

class Check {
 public:
  explicit Check(const ApiDescription& description) : description_(description) {}

  // Where it does not fit, and which word says so; empty: it does.
  std::string misfit(const json& schema, const json& value, const std::string& place) const {
    for (const auto& [word, wanted] : schema.items())
      if (std::string found = misfit(schema, word, value, place); !found.empty()) return found;
    return {};
  }

 private:
  std::string misfit(const json& schema, const std::string& word, const json& value,
                     const std::string& place) const {
    const json& wanted = schema[word];
    const auto plain = plain_words().find(word);
    if (plain != plain_words().end())
      return plain->second(wanted, value)
                 ? ""
                 : place + " " + value.dump() + " is not: " + word + " " + wanted.dump();
    if (word == "$ref") return misfit(description_.resolved(schema), value, place);
    if (word == "properties") return in_properties(wanted, value, place);
    if (word == "additionalProperties") return in_others(schema, value, place);
    if (word == "items") return in_items(wanted, value, place);
    if (word == "allOf") {
      for (const json& each : wanted)
        if (std::string found = misfit(each, value, place); !found.empty()) return found;
      return {};
    }
    if (word == "anyOf") {
      std::string all;
      for (const json& each : wanted) {
        const std::string found = misfit(each, value, place);
        if (found.empty()) return {};
        all += (all.empty() ? "" : "; and ") + found;
      }
      return all;
    }
    return place + ": the word '" + word + "' is not understood";
  }

  std::string in_properties(const json& properties, const json& value, const std::string& place) const {
    if (!value.is_object()) return {};
    for (const auto& [name, schema] : properties.items()) {
      if (!value.contains(name)) continue;
      if (std::string found = misfit(schema, value[name], place + "/" + name); !found.empty()) return found;
    }
    return {};
  }
  std::string in_others(const json& schema, const json& value, const std::string& place) const {
    const json& wanted = schema["additionalProperties"];
    if (!value.is_object()) return {};
    for (const auto& [name, each] : value.items()) {
      if (schema.contains("properties") && schema["properties"].contains(name)) continue;
      if (wanted == false) return place + "/" + name + " is not described";
      if (!wanted.is_object()) continue;
      if (std::string found = misfit(wanted, each, place + "/" + name); !found.empty()) return found;
    }
    return {};
  }
  std::string in_items(const json& schema, const json& value, const std::string& place) const {
    if (!value.is_array()) return {};
    for (std::size_t i = 0; i < value.size(); ++i) {
      std::string found = misfit(schema, value[i], place + "/" + std::to_string(i));
      if (!found.empty()) return found;
    }
    return {};
  }

  const ApiDescription& description_;
};

json parsed_file(const std::string& file) {
  std::ifstream stream(file);
  return json::parse(stream);
}

}  // namespace

ApiDescription::ApiDescription(const std::string& file)
    : document_(std::make_unique<const json>(parsed_file(file))) {}
ApiDescription::~ApiDescription() = default;

const json& ApiDescription::resolved(const json& part) const {
  if (!part.contains("$ref")) return part;
  return document_->at(json::json_pointer(part["$ref"].get<std::string>().substr(1)));
}

std::string ApiDescription::misfit(const json& schema, const json& value) const {
  return Check(*this).misfit(schema, value, "");
}

}  // namespace hum::testing
