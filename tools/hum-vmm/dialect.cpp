// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/dialect.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "devices/balloon/balloon_device.h"
#include "tools/hum-vmm/fault.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr unsigned ok = 200;
constexpr unsigned no_content = 204;
constexpr unsigned bad_request = 400;
constexpr unsigned payload_too_large = 413;

constexpr std::size_t longest_path_shown = 128;

// What the dialect itself refuses, in the words that its clients know.
class Refused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

constexpr Field action_fields[] = {{.name = "action_type",
                                    .type = FieldType::choice,
                                    .required = true,
                                    .choices = "InstanceStart|FlushMetrics|SendCtrlAltDel"}};
constexpr Field vm_fields[] = {
    {.name = "state", .type = FieldType::choice, .required = true, .choices = "Paused|Resumed"}};

constexpr Field hinting_fields[] = {{.name = "acknowledge_on_stop", .type = FieldType::boolean}};

enum class Phase : std::uint8_t { before, after };

void require(const Microvm& vm, Phase phase) {
  const bool started = vm.state() != Microvm::State::not_started;
  if (started == (phase == Phase::after)) return;
  throw Refused(std::string("The requested operation is not supported ") + (started ? "after" : "before") +
                " starting the microVM.");
}

const char* state_word(Microvm::State state) {
  switch (state) {
    case Microvm::State::not_started:
      return "Not started";
    case Microvm::State::running:
      return "Running";
    case Microvm::State::paused:
      break;
  }
  return "Paused";
}

ApiAnswer done(bool deprecated = false) {
  return {no_content, {}, deprecated};
}

ApiAnswer with(const json& body) {
  return {ok, body.dump(-1, ' ', false, json::error_handler_t::replace)};
}

// A path as it was asked for, in one line of text.
std::string shown_path(std::string_view path) {
  std::string text(path.substr(0, longest_path_shown));
  for (char& each : text)
    if (std::isprint(static_cast<unsigned char>(each)) == 0) each = '?';
  return text;
}

// The words of a path: slashes in front count as one, and one at the end as none, for clients put one there.
std::string_view words_of(std::string_view path) {
  path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
  if (path.ends_with('/')) path.remove_suffix(1);
  return path;
}

Refused unknown_path(const ApiRequest& request) {
  return Refused("Invalid request method and/or path: " + request.method + " " + shown_path(request.path) +
                 ".");
}

json without_nulls(json document) {
  for (auto item = document.begin(); item != document.end();)
    item = item->is_null() ? document.erase(item) : std::next(item);
  return document;
}

// A section and, in a list's, the id.
struct Target {
  const Section* section = nullptr;
  std::string id;
};

Target target_of(std::string_view path) {
  if (const Section* section = sections::find(path)) return {section, {}};
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {};
  const Section* section = sections::find(path.substr(0, slash));
  if (section == nullptr || section->id_field.empty()) return {};
  return {section, std::string(path.substr(slash + 1))};
}

json body_of(const ApiRequest& request) {
  if (request.body.empty()) throw Refused("Empty " + request.method + " request.");
  return parse_json(request.body);
}

bool has_balloon(const Microvm& vm) {
  return !vm.config().get(sections::balloon).is_null();
}

json balloon_statistics(const Microvm& vm) {
  if (vm.config().get(sections::balloon)["stats_polling_interval_s"] == 0)
    throw Refused("Statistics for the balloon device are not enabled.");
  constexpr std::uint64_t pages_per_mib = 256;
  const json report = vm.report_of(sections::balloon);
  json body = json::object();
  for (const std::string name : {"target", "actual"}) {
    const auto pages = report[name + "_pages"].get<std::uint64_t>();
    body[name + "_pages"] = pages;
    body[name + "_mib"] = pages / pages_per_mib;
  }
  for (const std::string_view name : BalloonDevice::statistic_names)
    if (report.contains(name)) body[std::string(name)] = report[std::string(name)];
  return body;
}

json hinting_status(const Microvm& vm) {
  const json report = vm.report_of(sections::balloon);
  if (!report.contains("host_cmd")) throw Refused("Free page hinting of the balloon device is not enabled.");
  json body = {{"host_cmd", report["host_cmd"]}};
  if (report.contains("guest_cmd")) body["guest_cmd"] = report["guest_cmd"];
  return body;
}

ApiAnswer get_balloon(const Microvm& vm, std::string_view path) {
  if (path != "balloon") require(vm, Phase::after);
  if (!has_balloon(vm)) throw Refused("No balloon device found.");
  if (path == "balloon") return with(vm.config().get(sections::balloon));
  return with(path == "balloon/statistics" ? balloon_statistics(vm) : hinting_status(vm));
}

ApiAnswer get_memory(const Microvm& vm) {
  require(vm, Phase::after);
  json body = vm.config().get(sections::memory_hotplug);
  if (body.is_null()) throw Refused("No memory hotplug device found.");
  const json report = vm.report_of(sections::memory_hotplug);
  for (const std::string name : {"plugged", "requested"})
    body[name + "_size_mib"] = report[name + "_bytes"].get<std::uint64_t>() >> 20;
  return with(body);
}

// A body may be left out.
ApiAnswer change_hinting(Microvm& vm, const ApiRequest& request, bool start) {
  const json body = request.body.empty() ? json::object() : parse_json(request.body);
  const json checked = checked_fields(
      "balloon/hinting", start ? std::span<const Field>(hinting_fields) : std::span<const Field>(), body);
  require(vm, Phase::after);
  if (!has_balloon(vm)) throw Refused("No balloon device found.");
  if (start)
    vm.start_hinting(checked.value("acknowledge_on_stop", true));
  else
    vm.stop_hinting();
  return done();
}

void refuse_body(const ApiRequest& request) {
  if (!request.body.empty()) throw Refused("GET request cannot have a body.");
}

ApiAnswer get(const Microvm& vm, std::string_view path) {
  if (path.empty())
    return with({{"app_name", "Firecracker"},
                 {"id", vm.id()},
                 {"state", state_word(vm.state())},
                 {"vmm_version", dialect_version}});
  if (path == "version") return with({{"firecracker_version", dialect_version}});
  if (path == "vm/config") return with(vm.config().all());
  if (path.starts_with("balloon")) return get_balloon(vm, path);
  if (path == "hotplug/memory") return get_memory(vm);
  return with(vm.config().get(sections::machine_config));
}

ApiAnswer act(Microvm& vm, const json& checked) {
  const std::string& action = checked["action_type"].get_ref<const std::string&>();
  require(vm, action == "InstanceStart" ? Phase::before : Phase::after);
  if (action == "InstanceStart") vm.start();
  if (action == "FlushMetrics") vm.flush_metrics();
  if (action == "SendCtrlAltDel") vm.press_ctrl_alt_del();
  return done();
}

ApiAnswer change_state(Microvm& vm, const json& checked) {
  require(vm, Phase::after);
  if (checked["state"] == "Paused")
    vm.pause();
  else
    vm.resume();
  return done();
}

ApiAnswer metadata(Microvm& vm, const ApiRequest& request) {
  if (request.method == "GET") {
    refuse_body(request);
    return {ok, vm.metadata().text()};
  }
  if (request.body.empty()) throw Refused("Empty " + request.method + " request.");
  switch (request.method == "PUT" ? vm.metadata().put(request.body) : vm.metadata().patch(request.body)) {
    case MetadataStore::Change::done:
      return done();
    case MetadataStore::Change::too_large:
      return {payload_too_large, fault_body("The metadata would be larger than --mmds-size-limit allows.")};
    case MetadataStore::Change::too_early:
      throw Refused("The MMDS data store is not initialized.");
    case MetadataStore::Change::malformed:
      break;
  }
  throw Refused("The metadata is no JSON.");
}

ApiAnswer take(Microvm& vm, const ApiRequest& request, const Target& target) {
  const Section& section = *target.section;
  const bool is_put = request.method == "PUT";
  if (section.id_field.empty() != target.id.empty()) throw unknown_path(request);
  const std::span<const Field> fields = is_put ? section.fields : section.patch_fields;
  if (fields.empty()) throw unknown_path(request);
  const json body = body_of(request);
  const json checked = checked_fields(section.path, fields, body);
  if (!target.id.empty() && checked[std::string(section.id_field)] != target.id)
    throw ConfigError(std::string(section.id_field), target.id,
                      "the id in the path is another than in the body", "give the same in both");
  const bool comes_later =
      is_put && section.hotplug && vm.hotplug() && vm.state() != Microvm::State::not_started;
  if (!comes_later) require(vm, !is_put && section.live ? Phase::after : Phase::before);
  if (comes_later)
    vm.attach(section, checked);
  else if (is_put)
    vm.put(section, checked);
  else
    vm.patch(section, checked);
  return done(has_deprecated(fields, checked));
}

ApiAnswer remove(Microvm& vm, const ApiRequest& request, const Target& target) {
  if (target.id.empty()) throw unknown_path(request);
  if (!request.body.empty()) throw Refused("DELETE request cannot have a body.");
  require(vm, Phase::after);
  if (!vm.hotplug()) throw Refused("Devices of a running microVM come and go on PCI only: use --enable-pci.");
  vm.detach(*target.section, target.id);
  return done();
}

ApiAnswer route(Microvm& vm, const ApiRequest& request) {
  if (!request.path.starts_with('/')) throw unknown_path(request);
  // Until the process is gone, too.
  if (vm.record() != nullptr && request.method != "GET") throw Refused("The microVM has ended.");
  const std::string_view path = words_of(request.path);
  constexpr std::array readable = {"",
                                   "version",
                                   "vm/config",
                                   "machine-config",
                                   "balloon",
                                   "balloon/statistics",
                                   "balloon/hinting/status",
                                   "hotplug/memory"};
  if (request.method == "GET" && std::find(readable.begin(), readable.end(), path) != readable.end()) {
    refuse_body(request);
    return get(vm, path);
  }
  if (request.method == "PUT" && path == "actions")
    return act(vm, checked_fields("actions", action_fields, body_of(request)));
  if (request.method == "PATCH" && path == "vm")
    return change_state(vm, checked_fields("vm", vm_fields, body_of(request)));
  if (request.method == "PATCH" && (path == "balloon/hinting/start" || path == "balloon/hinting/stop"))
    return change_hinting(vm, request, path == "balloon/hinting/start");
  if (path.starts_with("snapshot/") && request.method == "PUT")
    throw Refused("Snapshots are not supported yet.");
  if (path == "mmds" && (request.method == "GET" || request.method == "PUT" || request.method == "PATCH"))
    return metadata(vm, request);
  const Target target = target_of(path);
  if (target.section != nullptr && (request.method == "PUT" || request.method == "PATCH"))
    return take(vm, request, target);
  if (target.section != nullptr && target.section->hotplug && request.method == "DELETE")
    return remove(vm, request, target);
  throw unknown_path(request);
}

}  // namespace

std::string file_content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw HostError(errno, "read '" + path + "'", "give a file that can be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

ApiAnswer answer(Microvm& vm, const ApiRequest& request) {
  ApiAnswer result;
  try {
    result = route(vm, request);
  } catch (const std::exception& error) {
    result = {bad_request, fault_body(error.what())};
  }
  if (request.path.starts_with('/'))
    vm.requests().add(request.method, words_of(request.path), result.status >= bad_request);
  if (result.deprecated) vm.requests().add_deprecated();
  return result;
}

void load_config(Microvm& vm, std::string_view text) {
  const json document = parse_json(text);
  if (!document.is_object())
    throw ConfigError("--config-file", "", "no object", "give one object with sections");
  const json given = without_nulls(document);
  for (const auto& item : given.items()) {
    const std::string& name = item.key();
    const bool known = std::any_of(sections::all().begin(), sections::all().end(), [&](const Section* each) {
      return each != &sections::serial &&
             (each->name == name || (!each->alias.empty() && each->alias == name));
    });
    if (!known) throw ConfigError(name, "", "unknown section of a config file");
  }
  for (const Section* section : sections::all()) {
    std::string name(section->name);
    if (!section->alias.empty() && given.contains(section->alias)) {
      if (given.contains(name))
        throw ConfigError(std::string(section->alias), "", "is there twice", "give it as " + name + " only");
      name = section->alias;
    }
    if (!given.contains(name)) continue;
    // A CPU configuration may be a file of its own.
    const bool is_path = section == &sections::cpu_config && given[name].is_string();
    const json value = is_path ? parse_json(file_content(given[name].get<std::string>())) : given[name];
    const json elements = section->id_field.empty() ? json::array({value}) : value;
    if (!elements.is_array()) throw ConfigError(name, "", "no list", "give a list of objects");
    if (elements.empty()) continue;
    for (const json& each : elements) vm.put(*section, checked_fields(section->path, section->fields, each));
  }
}

}  // namespace hum
