// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/request_counts.h"

#include <algorithm>
#include <cctype>
#include <iterator>

namespace hum {
namespace {

struct Row {
  std::string_view method;
  std::string_view path;  // or what stands before the id
  std::string_view name;
};

constexpr Row rows[] = {
    {"get", "", "instance_info"},
    {"get", "machine-config", "machine_cfg"},
    {"get", "mmds", "mmds"},
    {"get", "version", "vmm_version"},
    {"get", "hotplug/memory", "hotplug_memory"},
    {"put", "actions", "actions"},
    {"put", "boot-source", "boot_source"},
    {"put", "drives", "drive"},
    {"put", "logger", "logger"},
    {"put", "machine-config", "machine_cfg"},
    {"put", "cpu-config", "cpu_cfg"},
    {"put", "metrics", "metrics"},
    {"put", "network-interfaces", "network"},
    {"put", "mmds", "mmds"},
    {"put", "mmds/config", "mmds"},
    {"put", "vsock", "vsock"},
    {"put", "pmem", "pmem"},
    {"put", "serial", "serial"},
    {"put", "hotplug/memory", "hotplug_memory"},
    {"patch", "drives", "drive"},
    {"patch", "network-interfaces", "network"},
    {"patch", "machine-config", "machine_cfg"},
    {"patch", "mmds", "mmds"},
    {"patch", "hotplug/memory", "hotplug_memory"},
    {"patch", "pmem", "pmem"},
};

bool is_same(std::string_view method, std::string_view row) {
  return std::equal(method.begin(), method.end(), row.begin(), row.end(),
                    [](unsigned char a, char b) { return std::tolower(a) == static_cast<unsigned char>(b); });
}

}  // namespace

RequestCounts::RequestCounts() {
  for (const Row& row : rows) counts_[row.method][row.name];
}

void RequestCounts::add(std::string_view method, std::string_view path, bool failed) {
  const std::size_t slash = path.rfind('/');
  for (const std::string_view part : {path, slash == std::string_view::npos ? path : path.substr(0, slash)}) {
    const auto* const row = std::find_if(std::begin(rows), std::end(rows), [&](const Row& each) {
      return is_same(method, each.method) && each.path == part;
    });
    if (row == std::end(rows)) continue;
    Count& count = counts_[row->method][row->name];
    ++count.all;
    count.failed += failed ? 1 : 0;
    return;
  }
}

}  // namespace hum
