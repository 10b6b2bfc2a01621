// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/own_paths.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "tools/hum-vmm/fault.h"
#include "tools/hum-vmm/fields.h"
#include "tools/hum-vmm/own_device.h"
#include "tools/hum-vmm/sections.h"
#include "tools/hum-vmm/statistics.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr std::string_view prefix = "/hum/v1/";
constexpr std::string_view console_protocol = "hum-console";

constexpr unsigned switching_protocols = 101;
constexpr unsigned ok = 200;
constexpr unsigned no_content = 204;
constexpr unsigned bad_request = 400;
constexpr unsigned not_found = 404;
constexpr unsigned method_not_allowed = 405;
constexpr unsigned conflict = 409;
constexpr unsigned upgrade_required = 426;
constexpr unsigned internal_error = 500;

ApiAnswer fault(unsigned status, std::string_view text) {
  return {.status = status, .body = fault_body(text)};
}

ApiAnswer with(const json& body) {
  return {.status = ok, .body = body.dump(-1, ' ', false, json::error_handler_t::replace)};
}

ApiAnswer not_started() {
  return fault(conflict, "The VM has not been started.");
}

std::string_view word_of(const Microvm& vm) {
  if (vm.record() != nullptr) return "ended";
  switch (vm.state()) {
    case Microvm::State::not_started:
      return "not-started";
    case Microvm::State::running:
      return "running";
    case Microvm::State::paused:
      break;
  }
  return "paused";
}

json pause_of(const Microvm& vm) {
  if (vm.state() != Microvm::State::paused || vm.record() != nullptr) return nullptr;
  if (vm.device_pause().empty()) return {{"by", "client"}};
  return {{"by", "device"}, {"reason", vm.device_pause()}};
}

ApiAnswer get_vm(Microvm& vm, const ApiRequest& /*request*/) {
  const bool started = vm.state() != Microvm::State::not_started;
  const EndRecord report = vm.report();
  return with({{"id", vm.id()},
               {"state", word_of(vm)},
               {"started", started ? json(report.started) : json()},
               {"uptime_seconds", report.duration_seconds},
               {"paused", pause_of(vm)},
               {"end", vm.record() != nullptr ? json::parse(vm.record()->to_json()) : json()}});
}

ApiAnswer get_events(Microvm& vm, const ApiRequest& request) {
  std::uint64_t last = 0;
  const std::string& text = request.last_event_id;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), last);
  if (!text.empty() && (error != std::errc() || end != text.data() + text.size()))
    return fault(bad_request, ConfigError("Last-Event-ID", text, "not an event's number").what());
  return {.status = ok, .content_type = "text/event-stream", .stream = vm.events().open(last)};
}

ApiAnswer get_console(Microvm& vm, const ApiRequest& request) {
  if (request.query != "" && request.query != "readonly=on" && request.query != "readonly=off")
    return fault(bad_request, ConfigError("query", request.query, "not accepted",
                                          "give readonly=on or readonly=off, or nothing")
                                  .what());
  if (request.upgrade != console_protocol) {
    ApiAnswer answer = fault(upgrade_required, "The console is a stream: ask for Upgrade: hum-console.");
    answer.headers = {{"Upgrade", std::string(console_protocol)}, {"Connection", "Upgrade"}};
    return answer;
  }
  if (vm.state() == Microvm::State::not_started) return not_started();
  auto stream = vm.open_console(request.query != "readonly=on");
  if (stream == nullptr)
    return fault(conflict, "Another client writes to the console: ask for it with ?readonly=on.");
  return {.status = switching_protocols,
          .headers = {{"Upgrade", std::string(console_protocol)}, {"Connection", "Upgrade"}},
          .stream = std::move(stream)};
}

ApiAnswer get_metrics(Microvm& vm, const ApiRequest& /*request*/) {
  return {.status = ok,
          .body = statistics_text(vm.report(), vm.console_traffic()),
          .content_type = "text/plain; version=0.0.4; charset=utf-8"};
}

ApiAnswer get_statistics(Microvm& vm, const ApiRequest& request) {
  if (request.accept.starts_with("text/plain")) return get_metrics(vm, request);
  return with(statistics_json(vm.report(), vm.console_traffic()));
}

json device_json(const DeviceOptions& device) {
  json options = json::object();
  for (const OptionSpec& row : device.options.table()) {
    const auto value = device.options.written(row.key);
    options[std::string(row.key)] = {{"value", value ? json(*value) : json()}, {"live", row.live}};
  }
  return {{"name", device.name}, {"kind", device.kind}, {"options", options}};
}

ApiAnswer get_devices(Microvm& vm, const ApiRequest& /*request*/) {
  json devices = json::array();
  for (const DeviceOptions& each : vm.device_options()) devices.push_back(device_json(each));
  return with(devices);
}

ApiAnswer patch_device(Microvm& vm, const ApiRequest& request, const std::string& name) {
  if (vm.state() == Microvm::State::not_started) return not_started();
  const std::vector<DeviceOptions> devices = vm.device_options();
  const auto device =
      std::find_if(devices.begin(), devices.end(), [&](const auto& each) { return each.name == name; });
  if (device == devices.end()) return fault(not_found, "There is no such device.");
  const json body = parse_json(request.body);
  if (!body.is_object() || body.empty())
    throw ConfigError("body", "", "nothing to change is given", "give an object with options");
  vm.change_device(device->name, own_option_text(device->name, device->options.table(), body));
  return {.status = no_content};
}

bool has_own_device(const Microvm& vm, const std::string& name) {
  return vm.config().device(sections::own_devices, name).has_value();
}

ApiAnswer needs_pci() {
  return fault(conflict, "Devices of a running VM come and go on PCI only: use --enable-pci.");
}

ApiAnswer put_device(Microvm& vm, const ApiRequest& request, const std::string& name) {
  const Section& section = sections::own_devices;
  json body = parse_json(request.body);
  if (body.is_object() && (!body.contains("name") || body["name"].is_null())) body["name"] = name;
  const json checked = checked_fields(section.name, section.fields, body);
  if (checked["name"] != name)
    throw ConfigError("hum-devices.name", name, "the name in the path is another than in the body",
                      "give the same in both, or none in the body");
  const bool started = vm.state() != Microvm::State::not_started;
  if (started && !vm.hotplug()) return needs_pci();
  if (started)
    vm.attach(section, checked);
  else
    vm.put(section, checked);
  return {.status = no_content};
}

ApiAnswer delete_device(Microvm& vm, const ApiRequest& request, const std::string& name) {
  if (!request.body.empty()) return fault(bad_request, "DELETE request cannot have a body.");
  if (!has_own_device(vm, name)) return fault(not_found, "There is no such device that was put here.");
  if (vm.state() != Microvm::State::not_started && !vm.hotplug()) return needs_pci();
  vm.detach(sections::own_devices, name);
  return {.status = no_content};
}

struct Path {
  std::string_view name;
  ApiAnswer (*get)(Microvm& vm, const ApiRequest& request);
};

constexpr Path paths[] = {
    {"vm", get_vm},           {"events", get_events},
    {"console", get_console}, {"statistics", get_statistics},
    {"metrics", get_metrics}, {"devices", get_devices},
};

ApiAnswer only(std::string_view method) {
  ApiAnswer answer = fault(method_not_allowed, "This path takes " + std::string(method) + " only.");
  answer.headers = {{"Allow", std::string(method)}};
  return answer;
}

ApiAnswer call_device(Microvm& vm, const ApiRequest& request, const std::string& name) {
  constexpr std::pair<std::string_view, ApiAnswer (*)(Microvm&, const ApiRequest&, const std::string&)>
      calls[] = {{"DELETE", delete_device}, {"PATCH", patch_device}, {"PUT", put_device}};
  for (const auto& [method, call] : calls) {
    if (method != request.method) continue;
    if (vm.record() != nullptr) return fault(conflict, "The VM has ended.");
    return call(vm, request, name);
  }
  return only("DELETE, PATCH, PUT");
}

ApiAnswer press_power_button(Microvm& vm, const ApiRequest& request) {
  if (request.method != "PUT") return only("PUT");
  if (!request.body.empty()) return fault(bad_request, "This request has no body.");
  if (vm.record() != nullptr) return fault(conflict, "The VM has ended.");
  if (vm.state() == Microvm::State::not_started) return not_started();
  if (!vm.press_power_button()) return fault(conflict, "This machine has no power button.");
  return {.status = no_content};
}

ApiAnswer route(Microvm& vm, const ApiRequest& request) {
  const std::string_view path = std::string_view(request.path).substr(prefix.size());
  const bool is_get = request.method == "GET";
  for (const Path& each : paths) {
    if (each.name != path) continue;
    if (!is_get) return only("GET");
    if (!request.body.empty()) return fault(bad_request, "GET request cannot have a body.");
    return each.get(vm, request);
  }
  if (path == "vm/power-button") return press_power_button(vm, request);
  constexpr std::string_view device = "devices/";
  if (!path.starts_with(device)) return fault(not_found, "There is no such path.");
  return call_device(vm, request, std::string(path.substr(device.size())));
}

}  // namespace

bool is_own_path(std::string_view path) {
  return path.starts_with(prefix);
}

ApiAnswer answer_own(Microvm& vm, const ApiRequest& request) {
  try {
    return route(vm, request);
  } catch (const ConfigError& error) {
    return fault(bad_request, error.what());
  } catch (const std::exception& error) {
    return fault(internal_error, error.what());
  }
}

}  // namespace hum
