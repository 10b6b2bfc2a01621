// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/api_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

// Of what has nothing that JSON escapes.
std::string quoted_word(std::string_view word) {
  return '"' + std::string(word) + '"';
}

std::string time_or_null(const std::optional<double>& seconds) {
  return seconds ? quoted_word(time_text(*seconds)) : "null";
}

std::string unescaped(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    if (text.front() == '%') {
      unsigned value = 0;
      const char* const begin = text.data() + 1;
      const char* const end = text.data() + std::min<std::size_t>(text.size(), 3);
      const auto [stop, error] = std::from_chars(begin, end, value, 16);
      if (error != std::errc() || stop != begin + 2 || value == 0)
        throw ConfigError("query", std::string(text.substr(0, 3)), "no escape", "write %41 for A");
      result += static_cast<char>(value);
      text.remove_prefix(3);
      continue;
    }
    result += text.front() == '+' ? ' ' : text.front();
    text.remove_prefix(1);
  }
  return result;
}

}  // namespace

std::string time_text(double seconds) {
  const double whole = std::floor(seconds);
  const auto time = static_cast<std::time_t>(whole);
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 64> text{};
  const int length = std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                                   parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                                   parts.tm_min, parts.tm_sec, static_cast<int>((seconds - whole) * 1000));
  return {text.data(), static_cast<std::size_t>(length)};
}

// Names and times need no quoting; the rest is JSON as it is stored, so that a long list costs little.
std::string vm_text(const VmRow& vm) {
  std::string text;
  text.reserve(400 + vm.spec_text.size() + vm.ended.size());
  const auto add = [&text](std::string_view name, std::string_view value) {
    ((((text += text.empty() ? "{\"" : ",\"") += name) += "\":") += value);
  };
  add("id", std::to_string(vm.id));
  add("name", quoted_word(vm.name));
  add("project", quoted_word(vm.project));
  add("owner", std::to_string(vm.owner));
  add("generation", std::to_string(vm.generation));
  add("state", quoted_word(to_string(vm.state)));
  add("wanted", vm.wanted ? "true" : "false");
  add("pid", vm.process ? std::to_string(vm.process->pid) : "null");
  add("failures", std::to_string(vm.failures));
  add("restart_at", time_or_null(vm.restart_at));
  add("created", quoted_word(time_text(vm.created)));
  add("started", time_or_null(vm.started));
  add("expires", time_or_null(vm.expires));
  add("end", vm.ended.empty() ? "null" : vm.ended);
  add("image", vm.image.empty() ? "null" : quoted_word(vm.image));
  add("spec", vm.spec_text);
  text += '}';
  return text;
}

std::string image_text(const ImageRow& image) {
  return json{{"id", image.id},
              {"name", image.name},
              {"owner", image.owner},
              {"state", to_string(image.state)},
              {"digest", image.digest.empty() ? json() : json(image.digest)},
              {"created", time_text(image.created)},
              {"source", json::parse(image.source)},
              {"content", image.summary.empty() ? json() : json::parse(image.summary)}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string volume_text(const VolumeRow& volume, const std::vector<std::string>& users) {
  return json{{"id", volume.id},
              {"name", volume.name},
              {"owner", volume.owner},
              {"state", to_string(volume.state)},
              {"format", volume.format == ImageFormat::qcow2 ? "qcow2" : "raw"},
              {"size", volume.size},
              {"image", volume.digest.empty() ? json() : json(volume.digest)},
              {"created", time_text(volume.created)},
              {"vms", users}}
      .dump();
}

std::string network_text(const NetworkRow& network, const std::vector<Lease>& leases) {
  json vms = json::array();
  for (const Lease& lease : leases) {
    json ports = json::array();
    for (const PublishedPort& port : lease.ports) ports.push_back(port.text());
    vms.push_back({{"vm", lease.name},
                   {"address", address_text(lease.address)},
                   {"mac", lease.mac.text()},
                   {"ports", ports}});
  }
  return json{{"id", network.id()},
              {"name", network.spec.name},
              {"owner", network.owner},
              {"state", to_string(network.state)},
              {"subnet", network.spec.subnet.text()},
              {"gateway", address_text(gateway_address(network.spec))},
              {"nat", network.spec.nat},
              {"dns_domain", network.spec.dns_domain},
              {"bridge", bridge_name(network.spec.id)},
              {"created", time_text(network.created)},
              {"vms", vms}}
      .dump();
}

// Put in without a look at the rest, which may be nested as deeply as its writer likes.
std::string with_process_use(std::string statistics, const ProcessUse& use) {
  constexpr std::string_view blanks = " \t\r\n";
  const std::size_t begin = statistics.find_first_not_of(blanks);
  if (begin == std::string::npos || statistics[begin] != '{') return statistics;
  const std::size_t next = statistics.find_first_not_of(blanks, begin + 1);
  const bool is_empty = next != std::string::npos && statistics[next] == '}';
  const json fields = {{"cpu_seconds", use.cpu_seconds}, {"resident_bytes", use.resident_bytes}};
  return statistics.insert(begin + 1, "\"process\":" + fields.dump() + (is_empty ? "" : ","));
}

std::string operation_text(const Operation& operation, const Run* run) {
  json fields = {{"id", operation.id},
                 {"kind", operation.kind},
                 {"type", to_string(operation.type)},
                 {"object", operation.object_name},
                 {"object_id", operation.object},
                 {"state", to_string(operation.state)},
                 {"step", run == nullptr || run->step.empty() ? json() : json(run->step)},
                 {"progress", nullptr},
                 {"undoing", operation.undoing},
                 {"created", time_text(operation.created)},
                 {"ended", operation.ended == 0 ? json() : json(time_text(operation.ended))},
                 {"error", nullptr}};
  if (run != nullptr && run->done != 0)
    fields["progress"] = {{"done_bytes", run->done.load()}, {"whole_bytes", run->whole.load()}};
  if (operation.failure)
    fields["error"] = {{"code", operation.failure->code}, {"message", operation.failure->text}};
  return fields.dump(-1, ' ', false, json::error_handler_t::replace);
}

QueryFields::QueryFields(std::string_view query, std::initializer_list<std::string_view> names) {
  while (!query.empty()) {
    const std::string_view part = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), part.size() + 1));
    const std::size_t equals = std::min(part.find('='), part.size());
    const std::string name = unescaped(part.substr(0, equals));
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      std::string accepted;
      for (const std::string_view each : names)
        accepted += (accepted.empty() ? "" : ", ") + std::string(each);
      throw ConfigError("query", name.substr(0, 64), "unknown",
                        accepted.empty() ? "this path takes none" : "accepted: " + accepted);
    }
    if (!fields_.emplace(name, unescaped(part.substr(std::min(part.size(), equals + 1)))).second)
      throw ConfigError("query", name, "is there twice");
  }
}

std::string QueryFields::text(std::string_view name) const {
  const auto found = fields_.find(name);
  return found == fields_.end() ? std::string() : found->second;
}

bool QueryFields::flag(std::string_view name) const {
  const auto found = fields_.find(name);
  if (found == fields_.end() || found->second == "false") return false;
  if (found->second == "true" || found->second.empty()) return true;
  throw ConfigError(std::string(name), found->second.substr(0, 64), "not accepted", "give true or false");
}

std::uint64_t QueryFields::number(std::string_view name, std::uint64_t otherwise, std::uint64_t most) const {
  const auto found = fields_.find(name);
  if (found == fields_.end()) return otherwise;
  const std::string& text = found->second;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > most)
    throw ConfigError(std::string(name), text.substr(0, 64), "not accepted",
                      "give a whole number up to " + std::to_string(most));
  return value;
}

}  // namespace hum
