// SPDX-License-Identifier: Apache-2.0
// The control groups of a VM that the program has put into a jail. As root only.
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tools/jailer/jailer_testing.h"
#include "vmm/base/testing.h"

namespace hum {

using nlohmann::json;
using namespace testing;
namespace {

// A group of a test's own below a hierarchy, removed at the end; empty where there is no such hierarchy.
class ParentGroup {
 public:
  ParentGroup(const std::string& mount, const std::string& file) {
    if (!fs::exists(mount + "/" + file)) return;
    path_ = mount + "/hum-test-" + std::to_string(::getpid());
    std::error_code error;
    if (!fs::create_directory(path_, error)) path_.clear();
  }
  ~ParentGroup() {
    if (path_.empty()) return;
    std::vector<std::string> below;
    for (const auto& each : fs::recursive_directory_iterator(path_))
      if (each.is_directory()) below.push_back(each.path());
    for (auto each = below.rbegin(); each != below.rend(); ++each) ::rmdir(each->c_str());
    ::rmdir(path_.c_str());
  }
  ParentGroup(const ParentGroup&) = delete;
  ParentGroup& operator=(const ParentGroup&) = delete;

  const std::string& path() const { return path_; }
  std::string name() const { return fs::path(path_).filename(); }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("a jailed VM is in its own cgroup of version 1 with the settings given") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  const ParentGroup pids("/sys/fs/cgroup/pids", "cgroup.procs");
  const ParentGroup cpuset("/sys/fs/cgroup/cpuset", "cpuset.cpus");
  if (pids.path().empty() || cpuset.path().empty()) {
    WARN("skipped: no cgroups of version 1 that can be made here");
    return;
  }
  jailer.put_vm("hang", "method=busy");
  const std::vector<std::string> settings = {
      "--parent-cgroup", pids.name() + "/blue", "--cgroup", "pids.max=77", "--cgroup", "cpuset.cpus=0"};
  std::vector<std::string> wrong = settings;
  wrong.insert(wrong.end(), {"--cgroup", "pids.no_such=1"});
  CHECK(has(refusal(jailer, wrong), "pids.no_such"));
  CHECK_FALSE(fs::exists(pids.path() + "/blue"));
  CHECK_FALSE(fs::exists(cpuset.path() + "/blue"));
  wrong.back() = "pids.max=many";
  CHECK(has(refusal(jailer, wrong), "many"));
  wrong.insert(wrong.end(), {"--resource-limit", "no-file=99999999999"});
  wrong[wrong.size() - 3] = "pids.max=1000";
  CHECK(has(refusal(jailer, wrong), "no-file"));
  CHECK_FALSE(fs::exists(pids.path() + "/blue"));

  Child child = jailer.start(settings, {});
  REQUIRE(until([&] { return fs::exists(jailer.root() + "/run/firecracker.socket"); }));
  const std::string pid = content_of(jailer.root() + "/firecracker.pid");
  CHECK(content_of(pids.path() + "/blue/vm1/cgroup.procs") == pid + "\n");
  CHECK(content_of(pids.path() + "/blue/vm1/pids.max") == "77\n");
  CHECK(content_of(cpuset.path() + "/blue/vm1/cgroup.procs") == pid + "\n");
  CHECK(content_of(cpuset.path() + "/blue/vm1/cpuset.cpus") == "0\n");
  child.kill();
  end_of(child);
}

TEST_CASE("a jailed VM is in its own cgroup of version 2, or in the one that was prepared") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  std::string mount = "/sys/fs/cgroup/unified";
  if (!fs::exists(mount + "/cgroup.controllers")) mount = "/sys/fs/cgroup";
  const ParentGroup parent(mount, "cgroup.controllers");
  if (parent.path().empty()) {
    WARN("skipped: no cgroups of version 2 that can be made here");
    return;
  }
  jailer.put_vm("hang", "method=busy");
  CHECK(
      has(refusal(jailer, {"--cgroup-version", "2", "--cgroup", "nothing.max=1"}), "has no such controller"));
  SECTION("with settings") {
    std::string setting;
    const std::string available = " " + content_of(mount + "/cgroup.controllers") + " ";
    for (const auto& [controller, text] : {std::pair("pids", "pids.max=77"),
                                           {"memory", "memory.max=1073741824"},
                                           {"hugetlb", "hugetlb.2MB.max=0"}})
      if (has(available, controller)) setting = text;
    if (setting.empty()) {
      WARN("skipped: no controller of version 2 here");
      return;
    }
    const std::string root_controllers = mount + "/cgroup.subtree_control";
    const std::string before = content_of(root_controllers);
    const std::vector<std::string> own = {"--cgroup-version", "2",        "--parent-cgroup",
                                          parent.name(),      "--cgroup", setting};
    std::vector<std::string> wrong = own;
    wrong.insert(wrong.end(), {"--resource-limit", "no-file=99999999999"});
    CHECK(has(refusal(jailer, wrong), "no-file"));
    CHECK_FALSE(fs::exists(parent.path() + "/vm1"));
    Child child = jailer.start(own, {});
    REQUIRE(until([&] { return fs::exists(jailer.root() + "/run/firecracker.socket"); }));
    const std::string folder = parent.path() + "/vm1/";
    CHECK(content_of(folder + "cgroup.procs") == content_of(jailer.root() + "/firecracker.pid") + "\n");
    CHECK(content_of(folder + setting.substr(0, setting.find('='))) ==
          setting.substr(setting.find('=') + 1) + "\n");
    child.kill();
    end_of(child);
    // The jailer leaves it on for others, and this test as it was.
    const std::string controller = setting.substr(0, setting.find('.'));
    CHECK(has(content_of(root_controllers), controller));
    ::rmdir(folder.c_str());
    std::ofstream(parent.path() + "/cgroup.subtree_control") << "-" + controller;
    if (!has(before, controller)) std::ofstream(root_controllers) << "-" + controller;
  }
  SECTION("without settings") {
    Child child = jailer.start({"--cgroup-version", "2", "--parent-cgroup", parent.name()}, {});
    REQUIRE(until([&] { return fs::exists(jailer.root() + "/run/firecracker.socket"); }));
    CHECK(content_of(parent.path() + "/cgroup.procs") ==
          content_of(jailer.root() + "/firecracker.pid") + "\n");
    child.kill();
    end_of(child);
  }
}

}  // namespace hum
