// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/top_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tools/hum/vm/text_table.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr double mib = 1024.0 * 1024.0;

std::optional<double> number_in(const json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return {};
  return found->get<double>();
}

VmSample::Counters counters_in(const json& statistics) {
  VmSample::Counters sum;
  if (const auto exits = statistics.find("exits"); exits != statistics.end() && exits->is_object())
    for (const auto& [reason, count] : exits->items())
      if (count.is_number()) sum.exits += count.get<double>();
  const auto devices = statistics.find("devices");
  if (devices == statistics.end() || !devices->is_array()) return sum;
  for (const json& device : *devices) {
    if (!device.is_object() || !device.contains("counters")) continue;
    const json& counters = device["counters"];
    sum.read_bytes += number_in(counters, "bytes_read").value_or(0);
    sum.written_bytes += number_in(counters, "bytes_written").value_or(0);
    sum.received_bytes += number_in(counters, "rx_bytes").value_or(0);
    sum.sent_bytes += number_in(counters, "tx_bytes").value_or(0);
  }
  return sum;
}

// Of the same process, and before.
const VmSample* sample_before(const std::vector<VmSample>& before, const VmSample& now) {
  const auto found = std::find_if(before.begin(), before.end(), [&](const VmSample& each) {
    return each.id == now.id && each.pid == now.pid && now.pid != 0 && each.at < now.at;
  });
  return found == before.end() ? nullptr : &*found;
}

std::string text_of(const json& number, const char* format) {
  if (!number.is_number()) return "-";
  std::array<char, 64> text{};
  const int length = std::snprintf(text.data(), text.size(), format, number.get<double>());
  return {text.data(), std::min(static_cast<std::size_t>(length), text.size() - 1)};
}

// "0", "512", "1.5K", "96M": of three digits at most, or nearly.
std::string size_text(const json& number) {
  if (!number.is_number()) return "-";
  double value = number.get<double>();
  const char* unit = "";
  for (const char* const next : {"K", "M", "G", "T"}) {
    if (value < 1023.5) break;
    value /= 1024;
    unit = next;
  }
  const bool has_point = *unit != '\0' && value < 9.95;
  return text_of(value, has_point ? "%.1f" : "%.0f") + unit;
}

}  // namespace

VmSample vm_sample(const json& vm, const json& statistics, double at) {
  VmSample sample{.id = vm["id"], .name = vm["name"], .state = vm["state"], .at = at};
  if (vm["pid"].is_number_integer()) sample.pid = vm["pid"];
  const json& spec = vm["spec"];
  const json limits = spec.value("limits", json::object());
  sample.limit_bytes =
      number_in(limits, "memory_mib").value_or(number_in(spec, "memory_mib").value_or(0)) * mib;
  if (!statistics.is_object()) return sample;
  if (const auto process = statistics.find("process"); process != statistics.end()) {
    sample.cpu_seconds = number_in(*process, "cpu_seconds");
    sample.resident_bytes = number_in(*process, "resident_bytes");
  }
  sample.counters = counters_in(statistics);
  return sample;
}

json top_json(const std::vector<VmSample>& before, const std::vector<VmSample>& now) {
  json rows = json::array();
  for (const VmSample& each : now) {
    const VmSample* const first = sample_before(before, each);
    const auto rate = [&](double was, double is) {
      return json(std::max(0.0, is - was) / (each.at - first->at));
    };
    json row = {{"name", each.name},
                {"state", each.state},
                {"cpu_percent", nullptr},
                {"resident_bytes", nullptr},
                {"limit_bytes", each.limit_bytes},
                {"read_bytes_s", nullptr},
                {"written_bytes_s", nullptr},
                {"received_bytes_s", nullptr},
                {"sent_bytes_s", nullptr},
                {"exits_s", nullptr}};
    if (each.resident_bytes) row["resident_bytes"] = *each.resident_bytes;
    if (first != nullptr && first->cpu_seconds && each.cpu_seconds)
      row["cpu_percent"] = rate(*first->cpu_seconds * 100, *each.cpu_seconds * 100);
    if (first != nullptr && first->counters && each.counters) {
      row["read_bytes_s"] = rate(first->counters->read_bytes, each.counters->read_bytes);
      row["written_bytes_s"] = rate(first->counters->written_bytes, each.counters->written_bytes);
      row["received_bytes_s"] = rate(first->counters->received_bytes, each.counters->received_bytes);
      row["sent_bytes_s"] = rate(first->counters->sent_bytes, each.counters->sent_bytes);
      row["exits_s"] = rate(first->counters->exits, each.counters->exits);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string top_table(const json& rows) {
  std::vector<std::vector<std::string>> cells;
  for (const json& row : rows)
    cells.push_back({row["name"], row["state"], text_of(row["cpu_percent"], "%.1f"),
                     size_text(row["resident_bytes"]), size_text(row["limit_bytes"]),
                     size_text(row["read_bytes_s"]), size_text(row["written_bytes_s"]),
                     size_text(row["received_bytes_s"]), size_text(row["sent_bytes_s"]),
                     text_of(row["exits_s"], "%.0f")});
  return text_table(
      {"NAME", "STATE", "CPU%", "MEMORY", "LIMIT", "READ/S", "WRITE/S", "RX/S", "TX/S", "EXITS/S"}, cells);
}

std::vector<std::string> fitting_lines(const std::string& text, std::size_t rows, std::size_t columns) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; lines.size() < rows && std::getline(stream, line);)
    lines.push_back(line.substr(0, columns));
  return lines;
}

}  // namespace hum
