// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/vm/text_table.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

namespace hum {

std::string text_table(const std::vector<std::string>& head,
                       const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const std::string& each : head) widths.push_back(each.size());
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i)
      widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  const auto add = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line += std::string(widths[i] - row[i].size() + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add(head);
  for (const auto& row : rows) add(row);
  return text;
}

std::string age_of(const std::string& time, double now) {
  std::tm parts{};
  if (std::sscanf(time.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d", &parts.tm_year, &parts.tm_mon, &parts.tm_mday,
                  &parts.tm_hour, &parts.tm_min, &parts.tm_sec) != 6)
    return "-";
  parts.tm_year -= 1900;
  parts.tm_mon -= 1;
  const auto seconds = static_cast<long>(now - static_cast<double>(::timegm(&parts)));
  if (seconds < 60) return std::to_string(std::max(seconds, 0L)) + " s";
  if (seconds < 3600) return std::to_string(seconds / 60) + " min";
  if (seconds < 48 * 3600) return std::to_string(seconds / 3600) + " h";
  return std::to_string(seconds / 86400) + " d";
}

}  // namespace hum
