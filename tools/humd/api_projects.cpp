// SPDX-License-Identifier: Apache-2.0
//
// What the API has for projects and for the room on the host.
#include <nlohmann/json.hpp>

#include "tools/hum-vmm/fields.h"
#include "tools/humd/api_call.h"
#include "tools/humd/api_error.h"
#include "tools/humd/api_text.h"
#include "tools/humd/body_table.h"
#include "tools/humd/capacity.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;
using enum FieldType;

constexpr Field quota_fields[] = {
    {.name = "vms", .type = integer},
    {.name = "cpus", .type = integer},
    {.name = "memory_mib", .type = integer},
};

json use_json(const VmUse& use) {
  return {{"vms", use.vms}, {"cpus", use.cpus}, {"memory_mib", use.memory_mib}};
}

json quota_json(const Quota& quota) {
  const auto number = [](const std::optional<std::uint64_t>& value) { return value ? json(*value) : json(); };
  return {{"vms", number(quota.vms)}, {"cpus", number(quota.cpus)}, {"memory_mib", number(quota.memory_mib)}};
}

json project_json(Manager& manager, const ProjectRow& project) {
  return {{"name", project.name},
          {"quota", quota_json(project.quota)},
          {"used", use_json(manager.vms().use_of_project(project.name, 0))}};
}

ProjectRow find_project(Manager& manager, const std::string& name) {
  auto row = manager.projects().find(name);
  if (!row) throw ApiError(404, "project-not-found", "the project '" + name.substr(0, 64) + "' has no quota");
  return std::move(*row);
}

std::optional<std::uint64_t> number_in(const json& given, const char* key) {
  if (!given.contains(key)) return {};
  return given[key].get<std::uint64_t>();
}

}  // namespace

std::vector<BodyTable> project_tables() {
  return {{"Quota", quota_fields}};
}

void Api::expect_administrator(const Call& call, const char* what) const {
  if (!may(call, manager_.settings().administrator))
    throw ApiError(403, "not-allowed", std::string("only the daemon's owner ") + what);
}

Task<ApiAnswer> Api::list_projects(Call& call) {
  const QueryFields fields(call.request.query, {});
  expect_administrator(call, "sees all projects");
  json list = json::array();
  for (const ProjectRow& row : manager_.projects().list()) list.push_back(project_json(manager_, row));
  co_return ok(dumped({{"projects", list}}));
}

Task<ApiAnswer> Api::get_project(Call& call) {
  const QueryFields fields(call.request.query, {});
  expect_administrator(call, "sees a project's quota");
  co_return ok(dumped(project_json(manager_, find_project(manager_, call.parts[1]))));
}

Task<ApiAnswer> Api::put_project(Call& call) {
  const QueryFields fields(call.request.query, {});
  expect_administrator(call, "gives quotas");
  check_name("project", call.parts[1]);
  const json given = checked_fields("project", quota_fields, parse_json(call.request.body));
  const ProjectRow row{.name = call.parts[1],
                       .quota = {.vms = number_in(given, "vms"),
                                 .cpus = number_in(given, "cpus"),
                                 .memory_mib = number_in(given, "memory_mib")}};
  {
    const Transaction transaction(manager_.store());
    manager_.projects().set(row);
    manager_.store().commit();
  }
  manager_.tell("project.updated", {{"project", row.name}});
  co_await manager_.store().synced();
  co_return ok(dumped(project_json(manager_, row)));
}

Task<ApiAnswer> Api::delete_project(Call& call) {
  const QueryFields fields(call.request.query, {});
  expect_administrator(call, "takes quotas away");
  const ProjectRow row = find_project(manager_, call.parts[1]);
  {
    const Transaction transaction(manager_.store());
    manager_.projects().remove(row.name);
    manager_.store().commit();
  }
  manager_.tell("project.deleted", {{"project", row.name}});
  co_await manager_.store().synced();
  co_return ok(dumped(project_json(manager_, row)));
}

Task<ApiAnswer> Api::get_capacity(Call& call) {
  const QueryFields fields(call.request.query, {"cpus", "memory_mib", "project"});
  constexpr std::uint64_t most = 1U << 24U;
  const VmUse one{
      .vms = 1, .cpus = fields.number("cpus", 1, most), .memory_mib = fields.number("memory_mib", 256, most)};
  const VmUse all = host_capacity(manager_.settings().share);
  const VmUse used = manager_.vms().use_of_active(0);
  Room room = room_on_host(all, used, one);
  if (const std::string name = fields.text("project"); !name.empty())
    if (const auto project = manager_.projects().find(name)) {
      Room there = room_in_quota(project->quota, manager_.vms().use_of_project(name, 0), one);
      if (there.fit < room.fit) room = std::move(there);
    }
  json limits = json::object();
  for (const VmCgroups::Controller& each : manager_.cgroups().controllers())
    limits[std::string(each.name)] =
        each.version == 0 ? "none: " + each.reason : "cgroup v" + std::to_string(each.version);
  co_return ok(dumped({{"one", {{"cpus", one.cpus}, {"memory_mib", one.memory_mib}}},
                       {"fit", room.fit},
                       {"limited_by", room.limited_by},
                       {"capacity", {{"cpus", all.cpus}, {"memory_mib", all.memory_mib}}},
                       {"used", use_json(used)},
                       {"limits", limits}}));
}

}  // namespace hum
