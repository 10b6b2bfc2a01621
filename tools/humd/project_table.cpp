// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/project_table.h"

#include "tools/humd/table_rows.h"

namespace hum {
namespace {

std::optional<std::uint64_t> number_or_none(const Query& row, int column) {
  if (row.is_null(column)) return {};
  return static_cast<std::uint64_t>(row.number(column));
}

ProjectRow project_of(const Query& row) {
  return {.name = row.text(0),
          .quota = {.vms = number_or_none(row, 1),
                    .cpus = number_or_none(row, 2),
                    .memory_mib = number_or_none(row, 3)}};
}

}  // namespace

void ProjectTable::set(const ProjectRow& project) {
  store_.database().execute(
      "INSERT OR REPLACE INTO project (name, vms, cpus, memory_mib) VALUES (?, ?, ?, ?)",
      {project.name, project.quota.vms, project.quota.cpus, project.quota.memory_mib});
}

bool ProjectTable::remove(const std::string& name) {
  if (!find(name)) return false;
  store_.database().execute("DELETE FROM project WHERE name = ?", {name});
  return true;
}

std::optional<ProjectRow> ProjectTable::find(const std::string& name) {
  return first(
      store_.database().query("SELECT name, vms, cpus, memory_mib FROM project WHERE name = ?", {name}),
      project_of);
}

std::vector<ProjectRow> ProjectTable::list() {
  return every(store_.database().query("SELECT name, vms, cpus, memory_mib FROM project ORDER BY name"),
               project_of);
}

}  // namespace hum
