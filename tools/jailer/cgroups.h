// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/jailer/arguments.h"
#include "tools/jailer/undo.h"

namespace hum {

// A cgroup that the jailed process is to be in.
struct CgroupPlan {
  std::string mount;                     // of the hierarchy: "/sys/fs/cgroup/pids"
  std::string path;                      // below it: "hum-vmm/vm1"
  std::vector<CgroupSetting> settings;   // in the order given
  std::vector<std::string> controllers;  // of version 2: to be switched on along the path
  bool must_exist = false;               // else it is made; one that is not there is no error either

  bool operator==(const CgroupPlan&) const = default;
};

// What the command line asks for, on a host with these mounts (the text of /proc/self/mounts). Looks at no
// other file. Throws ConfigError: there is no such hierarchy or controller.
std::vector<CgroupPlan> plan_cgroups(const JailerArguments& arguments, std::string_view mounts);

// Makes the group, writes its settings and moves this process into it. Throws HostError; ConfigError: the
// hierarchy has no such controller. What was made or moved is in undo, but controllers that were switched on
// for all groups beside it stay so: another process may count on them by now.
void enter_cgroup(const CgroupPlan& plan, Undo& undo);

}  // namespace hum
