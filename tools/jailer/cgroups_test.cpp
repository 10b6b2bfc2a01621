// SPDX-License-Identifier: Apache-2.0
#include "tools/jailer/cgroups.h"

#include "tools/jailer/jailer.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

constexpr const char* both_versions =
    "/dev/sda1 / ext4 rw,relatime,cpu 0 0\n"
    "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n"
    "cgroup /sys/fs/cgroup/a\\040b\\134c cgroup rw,pids 0 0\n"
    "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nosuid 0 0\n";

JailerArguments asking(unsigned version, std::vector<CgroupSetting> settings) {
  JailerArguments arguments;
  arguments.id = "vm1";
  arguments.exec_file = "/usr/bin/hum-vmm";
  arguments.parent_cgroup = "vms/blue";
  arguments.cgroup_version = version;
  arguments.cgroups = std::move(settings);
  return arguments;
}

std::string fault_of(const JailerArguments& arguments, const char* mounts) {
  try {
    plan_cgroups(arguments, mounts);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return {};
}

bool has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("settings of version 1 go to the hierarchies of their controllers, each once") {
  const auto plans = plan_cgroups(
      asking(1, {{"cpu.shares", "10"}, {"pids.max", "5"}, {"cpuacct.usage", "0"}, {"cpu.shares", "20"}}),
      both_versions);
  REQUIRE(plans.size() == 2);
  CHECK(plans[0] == CgroupPlan{"/sys/fs/cgroup/cpu,cpuacct",
                               "vms/blue/vm1",
                               {{"cpu.shares", "10"}, {"cpuacct.usage", "0"}, {"cpu.shares", "20"}},
                               {},
                               false});
  CHECK(plans[1] == CgroupPlan{"/sys/fs/cgroup/a b\\c", "vms/blue/vm1", {{"pids.max", "5"}}, {}, false});
  CHECK(plan_cgroups(asking(1, {}), both_versions).empty());
}

TEST_CASE("settings of version 2 go to one group, their controllers on along its path") {
  const auto plans = plan_cgroups(asking(2, {{"memory.max", "1G"}, {"pids.max", "5"}, {"memory.high", "1M"}}),
                                  both_versions);
  REQUIRE(plans.size() == 1);
  CHECK(plans[0] == CgroupPlan{"/sys/fs/cgroup/unified",
                               "vms/blue/vm1",
                               {{"memory.max", "1G"}, {"pids.max", "5"}, {"memory.high", "1M"}},
                               {"memory", "pids"},
                               false});
}

TEST_CASE("without settings of version 2 the process joins the parent's group, if there is one") {
  CHECK(plan_cgroups(asking(2, {}), both_versions) ==
        std::vector<CgroupPlan>{{"/sys/fs/cgroup/unified", "vms/blue", {}, {}, true}});
}

TEST_CASE("a controller or a hierarchy that is not there is refused by name") {
  const std::string unknown = fault_of(asking(1, {{"cpuset.cpus", "0"}}), both_versions);
  CHECK(has(unknown, "--cgroup 'cpuset.cpus=0'"));
  CHECK(has(unknown, "controller 'cpuset'"));
  CHECK(has(fault_of(asking(1, {{"cpu.shares", "0"}}), "cgroup2 /sys/fs/cgroup cgroup2 rw,cpu 0 0\n"),
            "--cgroup-version 2"));
  CHECK(
      has(fault_of(asking(2, {{"cpu.max", "1"}}), "cgroup /c cgroup rw,cpu 0 0\n"), "--cgroup-version '2'"));
  CHECK(has(fault_of(asking(2, {}), ""), "--cgroup-version '2'"));
}

TEST_CASE("the program is told its id and when the jailer began, and then what it was given") {
  JailerArguments arguments = asking(1, {});
  arguments.passed_on = {"--no-api", "--config-file", "/a b"};
  CHECK(jailed_command(arguments, {.wall_us = 5, .cpu_us = 1}, 30, 29) ==
        std::vector<std::string>{"/hum-vmm", "--id", "vm1", "--start-time-us", "5", "--start-time-cpu-us",
                                 "30", "--parent-cpu-time-us", "29", "--no-api", "--config-file", "/a b"});
}

}  // namespace hum
