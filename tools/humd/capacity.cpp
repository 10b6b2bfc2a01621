// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/capacity.h"

#include <unistd.h>

#include <algorithm>
#include <thread>

#include "tools/humd/api_error.h"
#include "tools/humd/manager.h"

namespace hum {
namespace {

std::uint64_t left(std::uint64_t all, std::uint64_t used) {
  return all > used ? all - used : 0;
}

void narrow(Room& room, std::uint64_t all, std::uint64_t used, std::uint64_t one, const char* what) {
  if (one == 0) return;
  const std::uint64_t fit = left(all, used) / one;
  if (fit >= room.fit) return;
  room.fit = fit;
  room.limited_by = what;
}

}  // namespace

Room room_on_host(const VmUse& all, const VmUse& used, const VmUse& one) {
  Room room{.fit = UINT64_MAX, .limited_by = {}};
  narrow(room, all.memory_mib, used.memory_mib, one.memory_mib, "memory");
  narrow(room, all.cpus, used.cpus, one.cpus, "cpus");
  return room;
}

Room room_in_quota(const Quota& quota, const VmUse& used, const VmUse& one) {
  Room room{.fit = UINT64_MAX, .limited_by = {}};
  if (quota.vms) narrow(room, *quota.vms, used.vms, one.vms, "project.vms");
  if (quota.memory_mib) narrow(room, *quota.memory_mib, used.memory_mib, one.memory_mib, "project.memory");
  if (quota.cpus) narrow(room, *quota.cpus, used.cpus, one.cpus, "project.cpus");
  return room;
}

VmUse host_capacity(const HostShare& share) {
  const auto pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t processors = std::max(1U, std::thread::hardware_concurrency());
  return {.vms = 0,
          .cpus = processors * share.cpus_per_processor,
          .memory_mib = (pages * page >> 20U) * share.memory_percent / 100};
}

VmUse use_of(const VmSpec& spec) {
  return {.vms = 1, .cpus = spec.cpus(), .memory_mib = spec.memory_mib()};
}

void expect_room(Manager& manager, const VmRow& vm) {
  const VmUse all = host_capacity(manager.settings().share);
  const VmUse used = manager.vms().use_of_active(vm.id);
  const VmUse one = use_of(vm.spec());
  const Room room = room_on_host(all, used, one);
  if (room.fit > 0) return;
  const bool memory = room.limited_by == "memory";
  const std::string unit = memory ? " MiB of memory" : " processors";
  const std::uint64_t most = memory ? all.memory_mib : all.cpus;
  throw ApiError(409, "no-room",
                 "there is no room for the VM '" + vm.name + "': it needs " +
                     std::to_string(memory ? one.memory_mib : one.cpus) + unit + ", and of " +
                     std::to_string(most) + " that VMs may have " +
                     std::to_string(left(most, memory ? used.memory_mib : used.cpus)) +
                     " are left; stop another, make it smaller, or start humd with a larger " +
                     (memory ? "--memory-share" : "--cpu-share"));
}

void expect_quota(Manager& manager, std::int64_t vm, const VmSpec& spec) {
  const auto project = manager.projects().find(spec.project());
  if (!project) return;
  const VmUse used = manager.vms().use_of_project(spec.project(), vm);
  const Room room = room_in_quota(project->quota, used, use_of(spec));
  if (room.fit > 0) return;
  throw ApiError(409, "quota-exceeded",
                 "the project '" + spec.project() + "' has no room for the VM '" + spec.name() +
                     "' in its quota (" + room.limited_by.substr(room.limited_by.find('.') + 1) +
                     "): the others are " + std::to_string(used.vms) + " VMs with " +
                     std::to_string(used.cpus) + " processors and " + std::to_string(used.memory_mib) +
                     " MiB of memory; delete one, or have the quota made larger (hum project set)");
}

}  // namespace hum
