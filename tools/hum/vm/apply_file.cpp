// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/apply_file.h"

#include <toml++/toml.h>
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tools/hum/vm/device_option.h"
#include "tools/hum/vm/limit_option.h"
#include "tools/hum/vm/size_option.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

struct Type {
  std::string_view table;  // of the file
  std::string_view word;
  void (*put_in_form)(json& fields, const std::string& folder);
};

json parsed(const std::string& text, const std::string& place) {
  try {
    const toml::table table = toml::parse(text, place);
    std::ostringstream stream;
    stream << toml::json_formatter(table);
    return json::parse(stream.str());
  } catch (const toml::parse_error& error) {
    throw ConfigError(place + ":" + std::to_string(error.source().begin.line), "", "no TOML",
                      std::string(error.description()));
  }
}

// A size in words, "10G", under the daemon's name for it.
void take_size(json& fields, const char* key, const char* name) {
  const auto found = fields.find(key);
  if (found == fields.end()) return;
  if (!found->is_string()) throw ConfigError(key, found->dump(), "no size", "give a text like \"10G\"");
  fields[name] = mib_of(key, found->get<std::string>());
  fields.erase(key);
}

void take_path(json& fields, const char* key, const std::string& folder) {
  const auto found = fields.find(key);
  if (found == fields.end() || !found->is_string()) return;
  const auto path = found->get<std::string>();
  if (path.find("://") == std::string::npos) *found = path_from(folder, path);
}

void put_image_in_form(json& fields, const std::string& folder) {
  for (const char* const key : {"kernel", "initrd", "disk"}) take_path(fields, key, folder);
}

void put_volume_in_form(json& fields, const std::string& /*folder*/) {
  take_size(fields, "size", "size_mib");
}

void put_project_in_form(json& fields, const std::string& /*folder*/) {
  take_size(fields, "memory", "memory_mib");
}

// What may be a text in the file where the daemon wants an object.
template <typename Of>
void replace_texts(json& fields, const char* key, Of of) {
  const auto found = fields.find(key);
  if (found == fields.end()) return;
  if (!found->is_array())
    throw ConfigError(key, found->dump(), "no list", "give texts in brackets: [\"one\"]");
  for (std::size_t i = 0; i < found->size(); ++i)
    if ((*found)[i].is_string()) (*found)[i] = of((*found)[i].get<std::string>(), i);
}

void put_vm_in_form(json& fields, const std::string& folder) {
  take_size(fields, "memory", "memory_mib");
  take_size(fields, "disk_size", "disk_mib");
  for (const char* const key : {"kernel", "initrd"}) take_path(fields, key, folder);
  replace_texts(fields, "networks",
                [](const std::string& name, std::size_t) { return json{{"network", name}}; });
  replace_texts(fields, "devices",
                [&](const std::string& text, std::size_t number) { return device_of(text, number, folder); });
  const auto limits = fields.find("limits");
  if (limits == fields.end() || !limits->is_array()) return;
  std::vector<std::string> texts;
  for (const json& each : *limits) texts.push_back(each.is_string() ? each.get<std::string>() : each.dump());
  *limits = limits_of(texts);
}

constexpr std::array<Type, 5> types = {{
    {"projects", "project", put_project_in_form},
    {"images", "image", put_image_in_form},
    {"networks", "network", [](json& /*fields*/, const std::string& /*folder*/) {}},
    {"volumes", "volume", put_volume_in_form},
    {"vms", "vm", put_vm_in_form},
}};

std::string state_of(const Type& type, json& fields) {
  const bool is_vm = type.word == "vm";
  const json state = fields.value("state", json(is_vm ? "running" : "present"));
  fields.erase("state");
  if (state == "absent" || (is_vm ? state == "running" || state == "stopped" : state == "present"))
    return state;
  throw ConfigError("state", state.is_string() ? state.get<std::string>() : state.dump(), "not accepted",
                    is_vm ? "give running, stopped or absent" : "give present or absent");
}

// project: of VMs that say none, or null.
WantedObject object_of(const Type& type, const std::string& name, json fields, const json& project,
                       const std::string& folder) {
  WantedObject wanted{.type = std::string(type.word), .name = name, .state = {}, .fields = {}};
  wanted.state = state_of(type, fields);
  if (fields.contains("name"))
    throw ConfigError("name", fields["name"].dump(), "is that of the table", "drop it");
  type.put_in_form(fields, folder);
  fields["name"] = name;
  if (type.word == "vm" && !project.is_null() && !fields.contains("project")) fields["project"] = project;
  wanted.fields = std::make_shared<const json>(std::move(fields));
  return wanted;
}

}  // namespace

std::vector<WantedObject> read_apply_file(const std::string& text, const std::string& place,
                                          const std::string& folder) {
  const json file = parsed(text, place);
  for (const auto& [key, value] : file.items())
    if (key != "project" && std::none_of(types.begin(), types.end(),
                                         [&name = key](const Type& type) { return type.table == name; }))
      throw ConfigError(place, key, "no such table",
                        "give project = \"NAME\", or tables like [vms.NAME], of projects, images, networks, "
                        "volumes and vms");
  std::vector<WantedObject> all;
  for (const Type& type : types) {
    const json objects = file.value(std::string(type.table), json::object());
    if (!objects.is_object())
      throw ConfigError(place, std::string(type.table), "no table",
                        "write [" + std::string(type.table) + ".NAME]");
    for (const auto& [name, fields] : objects.items()) {
      const std::string full_name = std::string(type.table) + "." + name;
      if (!fields.is_object()) throw ConfigError(place, full_name, "no table", "write [" + full_name + "]");
      try {
        all.push_back(object_of(type, name, fields, file.value("project", json()), folder));
      } catch (const ConfigError& error) {
        throw ConfigError(place, full_name, error.what());
      }
    }
  }
  return all;
}

}  // namespace hum
