// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/humd/store.h"

namespace hum {

// What the VMs of a project may be at most, running or not; nullopt: as many as there is room for.
struct Quota {
  std::optional<std::uint64_t> vms{};
  std::optional<std::uint64_t> cpus{};
  std::optional<std::uint64_t> memory_mib{};
};

struct ProjectRow {
  std::string name{};
  Quota quota{};
};

// The projects that have a quota; one that VMs name needs none. Nothing here commits.
class ProjectTable {
 public:
  explicit ProjectTable(Store& store) : store_(store) {}

  void set(const ProjectRow& project);
  // False: there was none.
  bool remove(const std::string& name);
  std::optional<ProjectRow> find(const std::string& name);
  // In the order of their names.
  std::vector<ProjectRow> list();

 private:
  Store& store_;
};

}  // namespace hum
