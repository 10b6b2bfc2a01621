// SPDX-License-Identifier: Apache-2.0
#include "tools/jailer/cgroups.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <optional>

#include "tools/cgroups/cgroup_files.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

constexpr mode_t group_mode = 0755;

// A version 1 cpuset has neither processors nor memory at first, and takes no process then.
void inherit_cpuset(const std::string& folder, const std::string& parent) {
  for (const char* const name : {"/cpuset.cpus", "/cpuset.mems"})
    if (cgroup_text(folder + name).empty()) write_cgroup_file(folder + name, cgroup_text(parent + name));
}

// Makes what is missing of the path, and has the controllers on in all but its last part.
void make_groups(const CgroupPlan& plan, Undo& undo) {
  std::string folder = plan.mount;
  for (std::size_t begin = 0; begin <= plan.path.size();) {
    for (const std::string& controller : plan.controllers)
      if (!has_word(cgroup_text(folder + "/cgroup.subtree_control"), controller, ' '))
        write_cgroup_file(folder + "/cgroup.subtree_control", "+" + controller);
    const std::size_t end = std::min(plan.path.find('/', begin), plan.path.size());
    const std::string name = plan.path.substr(begin, end - begin);
    const Fd parent = open_file(folder, O_PATH | O_DIRECTORY);
    const std::string child = folder + "/" + name;
    if (::mkdirat(parent.get(), name.c_str(), group_mode) == 0)
      undo.made(parent.get(), name, AT_REMOVEDIR);
    else if (errno != EEXIST)
      throw HostError(errno, "make the cgroup '" + child + "'", "give another --parent-cgroup");
    if (plan.controllers.empty() && ::access((child + "/cpuset.cpus").c_str(), F_OK) == 0)
      inherit_cpuset(child, folder);
    folder = child;
    begin = end + 1;
  }
}

// The cgroup.procs of the group of this hierarchy that this process is in; none where it is not to be seen
// below the mount (a cgroup namespace).
std::optional<Fd> present_group(const CgroupPlan& plan) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers = std::string_view(line).substr(first + 1, second - first - 1);
    const bool is_it = plan.controllers.empty() && !plan.settings.empty()
                           ? has_word(controllers, plan.settings.front().controller(), ',')
                           : controllers.empty();
    if (!is_it) continue;
    const std::string path = plan.mount + line.substr(second + 1) + "/cgroup.procs";
    Fd procs(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (procs) return procs;
  }
  return {};
}

}  // namespace

std::vector<CgroupPlan> plan_cgroups(const JailerArguments& arguments, std::string_view mounts) {
  const std::string own = arguments.parent_cgroup + "/" + arguments.id;
  if (arguments.cgroup_version == 2) {
    const std::optional<std::string> mount = cgroup_mount(mounts, {});
    if (!mount)
      throw ConfigError("--cgroup-version", "2", "this host has no such hierarchy mounted",
                        "give 1, or mount it: mount -t cgroup2 cgroup2 FOLDER");
    CgroupPlan plan{*mount, own, arguments.cgroups, {}, false};
    if (arguments.cgroups.empty()) {
      plan.path = arguments.parent_cgroup;
      plan.must_exist = true;
    }
    for (const CgroupSetting& each : arguments.cgroups)
      if (std::find(plan.controllers.begin(), plan.controllers.end(), each.controller()) ==
          plan.controllers.end())
        plan.controllers.push_back(each.controller());
    return {plan};
  }
  std::vector<CgroupPlan> plans;
  for (const CgroupSetting& each : arguments.cgroups) {
    const std::optional<std::string> mount = cgroup_mount(mounts, each.controller());
    if (!mount)
      throw ConfigError(
          "--cgroup", each.file + "=" + each.value,
          "this host has no version 1 hierarchy with the controller '" + each.controller() + "'",
          "mount it, or give --cgroup-version 2");
    const auto same = std::find_if(plans.begin(), plans.end(),
                                   [&](const CgroupPlan& plan) { return plan.mount == *mount; });
    if (same != plans.end())
      same->settings.push_back(each);
    else
      plans.push_back({*mount, own, {each}, {}, false});
  }
  return plans;
}

void enter_cgroup(const CgroupPlan& plan, Undo& undo) {
  const std::string folder = plan.mount + "/" + plan.path;
  if (plan.must_exist) {
    struct stat status{};
    if (::stat(folder.c_str(), &status) != 0) return;
  } else {
    const std::string available = cgroup_text(plan.mount + "/cgroup.controllers");
    for (const std::string& each : plan.controllers)
      if (!has_word(available, each, ' '))
        throw ConfigError("--cgroup", each, "the version 2 hierarchy has no such controller",
                          "it has: " + (available.empty() ? "none" : available));
    make_groups(plan, undo);
    for (const CgroupSetting& each : plan.settings) write_cgroup_file(folder + "/" + each.file, each.value);
  }
  std::optional<Fd> before = present_group(plan);
  write_cgroup_file(folder + "/cgroup.procs", "0");  // this process
  if (before) undo.moved(std::move(*before));
}

}  // namespace hum
