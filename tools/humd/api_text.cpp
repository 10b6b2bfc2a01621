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
  add("spec", vm.spec_text);
  text += '}';
  return text;
}

std::string operation_text(const Operation& operation, std::string_view step) {
  json fields = {{"id", operation.id},
                 {"kind", operation.kind},
                 {"vm", operation.object_name},
                 {"vm_id", operation.object},
                 {"state", to_string(operation.state)},
                 {"step", step.empty() ? json() : json(step)},
                 {"undoing", operation.undoing},
                 {"created", time_text(operation.created)},
                 {"ended", operation.ended == 0 ? json() : json(time_text(operation.ended))},
                 {"error", nullptr}};
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
