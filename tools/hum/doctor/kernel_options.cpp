// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/kernel_options.h"

#include <algorithm>

namespace hum::doctor {

KernelOptions::KernelOptions(std::string_view text) {
  constexpr std::string_view prefix = "CONFIG_";
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(prefix)) continue;
    line.remove_prefix(prefix.size());
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos || equals + 1 == line.size()) continue;
    values_.emplace(line.substr(0, equals), line[equals + 1]);
  }
}

char KernelOptions::get(const std::string& option) const {
  const auto found = values_.find(option);
  return found == values_.end() ? 'n' : found->second;
}

Presence DriverSources::find(const Driver& driver) const {
  const char value = options.empty() ? '?' : options.get(std::string(driver.option));
  if (value == 'y' || built_in.contains(driver.module)) return Presence::built_in;
  if (modules.contains(driver.module)) return Presence::in_initrd;
  if (value == 'n') return Presence::missing;
  if (value == 'm') return initrd_known ? Presence::missing : Presence::unknown;
  if (texts.contains(driver.text)) return Presence::built_in;
  if (!built_in.empty() && initrd_known) return Presence::missing;
  return Presence::unknown;
}

std::string module_name(std::string_view path) {
  path.remove_prefix(std::min(path.rfind('/') + 1, path.size()));
  const std::size_t end = path.find(".ko");
  if (end == std::string_view::npos || end == 0) return {};
  const std::string_view packed = path.substr(end + 3);
  if (!packed.empty() && packed != ".gz" && packed != ".xz" && packed != ".zst") return {};
  std::string name(path.substr(0, end));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace hum::doctor
