// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/manifest.h"

#include <toml++/toml.h>
#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>

#include "tools/hum/test/text.h"
#include "vmm/base/errors.h"
#include "vmm/machine/vm_config.h"

namespace hum {
namespace {

constexpr std::uint64_t longest_timeout = 24ull * 3600;

// One value of the manifest and where it stands.
struct Value {
  const toml::node& node;
  std::string key;
  std::string place;   // of the file
  std::string folder;  // of the file

  [[noreturn]] void refuse(const std::string& wanted) const {
    std::string text;
    if (const auto* const string = node.as_string()) text = string->get();
    if (const auto* const number = node.as_integer()) text = std::to_string(number->get());
    throw ConfigError(line_of(place, node) + ": " + key, text, "not accepted", "give " + wanted);
  }

  static std::string line_of(const std::string& file, const toml::node& at) {
    return file + ":" + std::to_string(at.source().begin.line);
  }

  std::string text() const {
    const auto* const string = node.as_string();
    if (string == nullptr) refuse("a text in quotes");
    return string->get();
  }

  std::uint64_t number(std::uint64_t least, std::uint64_t most) const {
    const auto* const integer = node.as_integer();
    if (integer == nullptr || integer->get() < static_cast<std::int64_t>(least) ||
        integer->get() > static_cast<std::int64_t>(most))
      refuse("a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    return static_cast<std::uint64_t>(integer->get());
  }

  bool flag() const {
    const auto* const boolean = node.as_boolean();
    if (boolean == nullptr) refuse("true or false");
    return boolean->get();
  }

  std::vector<std::string> texts() const {
    const auto* const array = node.as_array();
    if (array == nullptr) refuse("a list of texts: [\"one\", \"two\"]");
    std::vector<std::string> list;
    for (const toml::node& each : *array) list.push_back(Value{each, key, place, folder}.text());
    return list;
  }

  std::map<std::string, std::string> table() const {
    const auto* const given = node.as_table();
    if (given == nullptr) refuse("a table of texts: { NAME = \"value\" }");
    std::map<std::string, std::string> values;
    for (const auto& [name, each] : *given)
      values[std::string(name.str())] =
          Value{each, key + "." + std::string(name.str()), place, folder}.text();
    return values;
  }

  // A value of one of machine_options(), which may be a number or a text.
  std::string machine_option(const std::string& option) const {
    const std::string value = node.is_integer() ? std::to_string(number(0, INT64_MAX)) : text();
    try {
      VmConfig().set(option, value);
    } catch (const ConfigError& error) {
      throw ConfigError(line_of(place, node), "", error.what());
    }
    return value;
  }

  std::vector<std::string> machine_options_list(const std::string& option) const {
    const auto* const array = node.as_array();
    if (array == nullptr || array->empty()) refuse("a list of texts: [\"one\", \"two\"]");
    std::vector<std::string> list;
    for (const toml::node& each : *array) {
      list.push_back(Value{each, key, place, folder}.machine_option(option));
      if (std::count(list.begin(), list.end(), list.back()) > 1) refuse("each value once");
    }
    return list;
  }

  std::vector<std::string> paths() const {
    std::vector<std::string> list = texts();
    for (std::string& each : list) each = path_in(folder, each);
    return list;
  }

  Expectation expectation() const {
    if (node.is_integer()) {
      const auto code = static_cast<std::uint32_t>(number(0, UINT32_MAX));
      return {code == 0 ? Ending::pass : code == skip_exit_code ? Ending::skip : Ending::fail, code};
    }
    const std::optional<Ending> ending = expected_ending(node.is_string() ? text() : "");
    if (!ending) refuse(expected_endings());
    return {*ending, std::nullopt};
  }
};

struct Key {
  std::string_view name;
  void (*read)(TestCase& test, const Value& value);
};

constexpr std::array<Key, 23> keys = {{
    {"name", [](TestCase& test, const Value& value) { test.name = value.text(); }},
    {"image", [](TestCase& test, const Value& value) { test.image = path_in(value.folder, value.text()); }},
    {"what", [](TestCase& test, const Value& value) { test.what = value.text(); }},
    {"fault", [](TestCase& test, const Value& value) { test.fault = value.text(); }},
    {"arguments", [](TestCase& test, const Value& value) { test.arguments = value.text(); }},
    {"groups", [](TestCase& test, const Value& value) { test.groups = value.texts(); }},
    {"cpus", [](TestCase& test, const Value& value) { test.machine["cpus"] = value.machine_option("cpus"); }},
    {"memory",
     [](TestCase& test, const Value& value) { test.machine["memory"] = value.machine_option("memory"); }},
    {"boot", [](TestCase& test, const Value& value) { test.machine["boot"] = value.machine_option("boot"); }},
    {"hugepages", [](TestCase& test,
                     const Value& value) { test.machine["hugepages"] = value.machine_option("hugepages"); }},
    {"shared-memory",
     [](TestCase& test, const Value& value) {
       test.machine["shared-memory"] = value.machine_option("shared-memory");
     }},
    {"transports",
     [](TestCase& test, const Value& value) { test.transports = value.machine_options_list("transport"); }},
    {"irqchips",
     [](TestCase& test, const Value& value) { test.irqchips = value.machine_options_list("irqchip"); }},
    {"initrd", [](TestCase& test, const Value& value) { test.initrd = path_in(value.folder, value.text()); }},
    {"modules", [](TestCase& test, const Value& value) { test.modules = value.paths(); }},
    {"disks", [](TestCase& test, const Value& value) { test.disks = value.texts(); }},
    {"devices", [](TestCase& test, const Value& value) { test.devices = value.texts(); }},
    {"input", [](TestCase& test, const Value& value) { test.input = value.text(); }},
    {"environment", [](TestCase& test, const Value& value) { test.environment = value.table(); }},
    {"timeout",
     [](TestCase& test, const Value& value) {
       test.timeout = static_cast<unsigned>(value.number(1, longest_timeout));
     }},
    {"expect", [](TestCase& test, const Value& value) { test.expect = value.expectation(); }},
    {"slow", [](TestCase& test, const Value& value) { test.slow = value.flag(); }},
    {"needs",
     [](TestCase& test, const Value& value) {
       const std::string need = value.node.is_string() ? value.text() : "";
       if (need != "lab" && need != "direct-io") value.refuse("\"lab\" or \"direct-io\"");
       test.need = need == "lab" ? Need::lab : Need::direct_io;
     }},
}};

std::string known_keys() {
  std::string list;
  for (const Key& key : keys) list += (list.empty() ? "" : ", ") + std::string(key.name);
  return list;
}

void read_keys(const toml::table& table, TestCase& test, const std::string& place,
               const std::string& folder) {
  for (const auto& [name, node] : table) {
    const auto key = std::find_if(keys.begin(), keys.end(), [&](const Key& row) { return row.name == name; });
    if (key == keys.end())
      throw ConfigError(place + ":" + std::to_string(name.source().begin.line) + ": key",
                        std::string(name.str()), "there is no such key", "the keys are " + known_keys());
    key->read(test, {node, std::string(name.str()), place, folder});
  }
}

void check_test(const TestCase& test) {
  const bool plain = std::all_of(test.name.begin(), test.name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
  if (test.name.empty()) throw ConfigError(test.place + ": name", "", "the test has none", "give one");
  if (!plain)
    throw ConfigError(test.place + ": name", test.name, "not accepted", "use small letters, digits and -");
  if (test.image.empty())
    throw ConfigError(test.place + ": image", "", "the test has none", "give the image's path");
}

}  // namespace

std::vector<TestCase> parse_manifest(std::string_view text, const std::string& place,
                                     const std::string& folder) {
  toml::table document;
  try {
    document = toml::parse(text, std::string_view(place));
  } catch (const toml::parse_error& error) {
    throw ConfigError(place + ":" + std::to_string(error.source().begin.line), "",
                      std::string(error.description()));
  }
  TestCase defaults;
  const toml::array* tests = nullptr;
  for (const auto& [name, node] : document) {
    const std::string where = place + ":" + std::to_string(name.source().begin.line) + ": key";
    if (name == "defaults" && node.is_table()) {
      read_keys(*node.as_table(), defaults, place, folder);
      if (!defaults.name.empty() || !defaults.image.empty())
        throw ConfigError(where, "defaults", "name and image have no default", "give them with each test");
    } else if (name == "test" && node.is_array_of_tables()) {
      tests = node.as_array();
    } else {
      throw ConfigError(where, std::string(name.str()), "not accepted",
                        "a manifest has [[test]] tables and one [defaults] table");
    }
  }
  if (tests == nullptr) throw ConfigError(place, "", "there is no [[test]] in it", "add one");
  std::vector<TestCase> all;
  for (const toml::node& node : *tests) {
    TestCase test = defaults;
    test.place = place + ":" + std::to_string(node.source().begin.line);
    read_keys(*node.as_table(), test, place, folder);
    check_test(test);
    all.push_back(std::move(test));
  }
  return all;
}

std::vector<TestCase> read_manifest(const std::string& path) {
  return parse_manifest(read_text_file(path), path, std::filesystem::path(path).parent_path().string());
}

}  // namespace hum
