// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/vm_cgroups.h"

#include <signal.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tools/cgroups/cgroup_files.h"
#include "tools/humd/daemon_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

namespace fs = std::filesystem;
using namespace testing;

const VmLimits all_limits = {{"cpu_percent", 150}, {"cpu_weight", 200}, {"memory_mib", 300},
                             {"pids", 64},         {"read_mib_s", 10},  {"write_mib_s", 20},
                             {"read_ops", 30},     {"write_ops", 40}};

// A folder as a hierarchy is: the kernel makes a group's files, a test has them made before.
class FakeHierarchy {
 public:
  FakeHierarchy() {
    for (const char* const group : {"", "user", "user/me"})
      put(std::string(group), "cgroup.controllers", "cpu memory pids");
    put("", "cgroup.subtree_control", "cpu memory");
  }

  std::string path() const { return folder_.path(); }
  std::string text(const std::string& file) const { return cgroup_text(path() + "/" + file); }
  void put(const std::string& group, const std::string& file, const std::string& content) const {
    fs::create_directories(fs::path(path()) / group);
    std::ofstream(fs::path(path()) / group / file) << content;
  }
  void make_group(const std::string& parent, const std::string& name) const {
    put(parent, "cgroup.subtree_control", "");
    for (const char* const file :
         {"cpu.max", "cpu.weight", "memory.max", "pids.max", "cgroup.procs", "cpu.cfs_period_us",
          "cpu.cfs_quota_us", "cpu.shares", "memory.limit_in_bytes"})
      put(parent + "/" + name, file, "");
  }
  void forget_files(const std::string& group) const {
    for (const auto& each : fs::directory_iterator(fs::path(path()) / group)) fs::remove(each.path());
  }

 private:
  TemporaryFolder folder_;
};

CgroupPlace place_of(const std::string& mounts, bool is_root = true) {
  return {
      .mounts = mounts, .own = "0::/user/me\n", .is_root = is_root, .instance = "ab12", .images = "/proc"};
}

std::vector<std::string> names(const std::vector<std::string>& notes) {
  std::vector<std::string> found;
  for (const std::string& each : notes) found.push_back(each.substr(0, each.find(':')));
  return found;
}

}  // namespace

TEST_CASE("a host with cgroups of version 2 holds limits by its files, and says which it cannot hold") {
  const FakeHierarchy host;
  host.make_group("hummingbird", "ab12-7");
  VmCgroups groups(place_of("cgroup2 " + host.path() + " cgroup2 rw 0 0\n"));
  // There is no disk below /proc.
  CHECK(names(groups.not_held(all_limits)) ==
        std::vector<std::string>{"read_mib_s", "write_mib_s", "read_ops", "write_ops"});
  CHECK_THAT(groups.not_held(all_limits).front(), Catch::Contains("is on no block device"));
  CHECK(groups.not_held({{"cpu_percent", 1}, {"pids", 20}}).empty());

  groups.make(7, all_limits);
  const std::string group = "hummingbird/ab12-7/";
  CHECK(host.text(group + "cpu.max") == "150000 100000");
  CHECK(host.text(group + "cpu.weight") == "200");
  CHECK(host.text(group + "memory.max") == "314572800");
  CHECK(host.text(group + "pids.max") == "64");
  groups.enter(7, 4711);
  CHECK(host.text(group + "cgroup.procs") == "4711");
  CHECK(groups.vms() == std::vector<std::int64_t>{7});
}

TEST_CASE("limits that are taken away are the kernel's words for none") {
  const FakeHierarchy host;
  host.make_group("hummingbird", "ab12-7");
  VmCgroups groups(place_of("cgroup2 " + host.path() + " cgroup2 rw 0 0\n"));
  groups.make(7, all_limits);
  for (const char* const file : {"cpu.max", "cpu.weight", "memory.max", "pids.max"})
    host.put("hummingbird/ab12-7", file, "");  // a write does not shorten a plain file
  groups.make(7, {});
  CHECK(host.text("hummingbird/ab12-7/cpu.max") == "max 100000");
  CHECK(host.text("hummingbird/ab12-7/cpu.weight") == "100");
  CHECK(host.text("hummingbird/ab12-7/memory.max") == "max");
  CHECK(host.text("hummingbird/ab12-7/pids.max") == "max");
}

TEST_CASE("controllers are switched on along the way to the groups, once") {
  const FakeHierarchy host;
  host.make_group("hummingbird", "ab12-7");
  VmCgroups groups(place_of("cgroup2 " + host.path() + " cgroup2 rw 0 0\n"));
  host.forget_files("hummingbird/ab12-7");
  // The fake kernel makes no files in a new group, so the first limit is refused.
  CHECK_THROWS_AS(groups.make(7, {{"cpu_percent", 50}}), HostError);
  CHECK(host.text("cgroup.subtree_control") == "cpu memory");  // it was on
  CHECK(host.text("hummingbird/cgroup.subtree_control") == "+cpu");
}

TEST_CASE("without root the groups are beside the daemon's own, and those of version 1 are nobody's") {
  const FakeHierarchy host;
  host.make_group("user/hummingbird", "ab12-7");
  const std::string mounts = "cgroup2 " + host.path() + " cgroup2 rw 0 0\n";
  VmCgroups groups(place_of(mounts, false));
  groups.make(7, {{"pids", 64}});
  CHECK(host.text("user/hummingbird/ab12-7/pids.max") == "64");

  const FakeHierarchy old;
  const VmCgroups none(place_of("cgroup " + old.path() + " cgroup rw,cpu,cpuacct 0 0\n", false));
  CHECK_THAT(none.not_held({{"cpu_percent", 1}}).front(),
             Catch::Contains("only root may use cgroups of version 1"));
  CHECK_THAT(none.not_held({{"pids", 20}}).front(), Catch::Contains("this host gives no such controller"));
}

TEST_CASE("a host with cgroups of version 1 holds limits by other files, each controller in its hierarchy") {
  const FakeHierarchy cpu;
  const FakeHierarchy memory;
  cpu.make_group("hummingbird", "ab12-7");
  memory.make_group("hummingbird", "ab12-7");
  VmCgroups groups(place_of("cgroup " + cpu.path() + " cgroup rw,cpu,cpuacct 0 0\ncgroup " + memory.path() +
                            " cgroup rw,memory 0 0\n"));
  CHECK(names(groups.not_held(all_limits)) ==
        std::vector<std::string>{"pids", "read_mib_s", "write_mib_s", "read_ops", "write_ops"});
  groups.make(7, all_limits);
  CHECK(cpu.text("hummingbird/ab12-7/cpu.cfs_quota_us") == "150000");
  CHECK(cpu.text("hummingbird/ab12-7/cpu.shares") == "2048");
  CHECK(memory.text("hummingbird/ab12-7/memory.limit_in_bytes") == "314572800");
}

TEST_CASE(
    "a VM's process is in groups of its own as long as it runs, also when the daemon is another by then") {
  const DaemonPlace place;
  const VmCgroups host(CgroupPlace::here("probe", place.folders().state));
  if (!host.not_held({{"cpu_percent", 1}, {"pids", 64}}).empty()) {
    WARN("skipped: " << host.not_held({{"cpu_percent", 1}, {"pids", 64}}).front());
    return;
  }
  const auto in_groups = [](Manager& manager) {
    const std::string own =
        cgroup_text("/proc/" + std::to_string(manager.live().find(1)->identity().pid) + "/cgroup");
    return own.find("hummingbird/") != std::string::npos;
  };
  {
    boost::asio::io_context context{1};
    Manager manager(context, place.settings());
    const auto life = [&]() -> Task<> {
      co_await manager.recover();
      VmSpec spec = fake_vm("web", {}, R"({"limits": {"cpu_percent": 50, "pids": 64}})");
      Caller creator;
      const Operation made = co_await manager.create(std::move(spec), std::move(creator), true);
      co_await manager.wait_for(made.id, TimePoint::max());
      while (manager.vms().find(1)->state != VmState::running)
        co_await manager.wait_for_change(TimePoint::max());
      CHECK(in_groups(manager));
      CHECK(manager.cgroups().vms() == std::vector<std::int64_t>{1});
      const VmRow row = *manager.vms().find(1);
      const nlohmann::json none = {{"limits", nullptr}};
      co_await manager.update(row, row.spec().with(none));
      CHECK(in_groups(manager));
      const nlohmann::json more = {{"limits", {{"cpu_percent", 70U}}}};
      co_await manager.update(*manager.vms().find(1), row.spec().with(more));
    };
    run_coroutine(context, life());
  }
  boost::asio::io_context context{1};
  Manager manager(context, place.settings());
  const auto life = [&]() -> Task<> {
    co_await manager.recover();
    CHECK(in_groups(manager));
    Caller killer;
    const Operation end = co_await manager.begin("kill", *manager.vms().find(1), std::move(killer), "{}");
    co_await manager.wait_for(end.id, TimePoint::max());
    CHECK(manager.cgroups().vms().empty());
    CHECK(place.untidy({1}, {}) == "");
  };
  run_coroutine(context, life());
}

}  // namespace hum
