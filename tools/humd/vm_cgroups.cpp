// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/vm_cgroups.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <set>
#include <sstream>

#include "tools/cgroups/cgroup_files.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view parent_name = "hummingbird";
constexpr mode_t group_mode = 0755;
constexpr std::uint64_t mib = 1024UL * 1024;
constexpr std::uint64_t cpu_period = 100'000;  // microseconds
constexpr std::uint64_t usual_weight = 100;
constexpr std::uint64_t usual_shares = 1024;

struct Setting {
  std::string file;
  std::string value;
};

std::optional<std::uint64_t> limit_of(const VmLimits& limits, std::string_view name) {
  const auto found = limits.find(name);
  if (found == limits.end()) return {};
  return found->second;
}

std::string number_or(const std::optional<std::uint64_t>& number, const char* otherwise) {
  return number ? std::to_string(*number) : otherwise;
}

std::vector<Setting> cpu_settings(const VmLimits& limits, int version, const std::string&) {
  const auto percent = limit_of(limits, "cpu_percent");
  const std::uint64_t weight = limit_of(limits, "cpu_weight").value_or(usual_weight);
  const std::uint64_t quota = percent.value_or(0) * cpu_period / 100;
  if (version == 2)
    return {{"cpu.max", (percent ? std::to_string(quota) : "max") + " " + std::to_string(cpu_period)},
            {"cpu.weight", std::to_string(weight)}};
  return {{"cpu.cfs_period_us", std::to_string(cpu_period)},
          {"cpu.cfs_quota_us", percent ? std::to_string(quota) : "-1"},
          {"cpu.shares", std::to_string(std::max<std::uint64_t>(2, weight * usual_shares / usual_weight))}};
}

std::vector<Setting> memory_settings(const VmLimits& limits, int version, const std::string&) {
  auto bytes = limit_of(limits, "memory_mib");
  if (bytes) *bytes *= mib;
  if (version == 2) return {{"memory.max", number_or(bytes, "max")}};
  return {{"memory.limit_in_bytes", number_or(bytes, "-1")}};
}

std::vector<Setting> pids_settings(const VmLimits& limits, int, const std::string&) {
  return {{"pids.max", number_or(limit_of(limits, "pids"), "max")}};
}

std::vector<Setting> io_settings(const VmLimits& limits, int version, const std::string& disk) {
  auto read = limit_of(limits, "read_mib_s");
  auto write = limit_of(limits, "write_mib_s");
  if (read) *read *= mib;
  if (write) *write *= mib;
  const auto read_ops = limit_of(limits, "read_ops");
  const auto write_ops = limit_of(limits, "write_ops");
  if (version == 2)
    return {{"io.max", disk + " rbps=" + number_or(read, "max") + " wbps=" + number_or(write, "max") +
                           " riops=" + number_or(read_ops, "max") + " wiops=" + number_or(write_ops, "max")}};
  return {{"blkio.throttle.read_bps_device", disk + " " + number_or(read, "0")},
          {"blkio.throttle.write_bps_device", disk + " " + number_or(write, "0")},
          {"blkio.throttle.read_iops_device", disk + " " + number_or(read_ops, "0")},
          {"blkio.throttle.write_iops_device", disk + " " + number_or(write_ops, "0")}};
}

struct Kind {
  std::string_view name;
  std::string_view old_name;  // of version 1
  std::vector<std::string_view> limits;
  std::vector<Setting> (*settings)(const VmLimits& limits, int version, const std::string& disk);
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"cpu", "cpu", {"cpu_percent", "cpu_weight"}, cpu_settings},
      {"memory", "memory", {"memory_mib"}, memory_settings},
      {"pids", "pids", {"pids"}, pids_settings},
      {"io", "blkio", {"read_mib_s", "write_mib_s", "read_ops", "write_ops"}, io_settings},
  };
  return all;
}

const Kind& kind_of(const VmCgroups::Controller& controller) {
  return *std::find_if(kinds().begin(), kinds().end(),
                       [&](const Kind& kind) { return kind.name == controller.name; });
}

bool wants(const VmLimits& limits, const Kind& kind) {
  return std::any_of(kind.limits.begin(), kind.limits.end(),
                     [&](std::string_view each) { return limits.contains(each); });
}

// The disk with that folder, of which a partition has no limits of its own. Empty: there is no block device.
std::string disk_of(const fs::path& folder) {
  struct stat status{};
  if (::stat(folder.c_str(), &status) != 0 || major(status.st_dev) == 0) return {};
  std::string number = std::to_string(major(status.st_dev)) + ":" + std::to_string(minor(status.st_dev));
  const fs::path device = fs::path("/sys/dev/block") / number;
  std::error_code error;
  if (!fs::exists(device, error)) return {};
  const fs::path whole = fs::canonical(device, error).parent_path() / "dev";
  if (!error && fs::exists(device / "partition", error)) number = cgroup_text(whole);
  return number;
}

// The group of version 2 above this process's own, below the mount: a group with processes in it gives no
// controllers to groups below it (cgroup-v2.rst, No Internal Process Constraint).
std::string group_above(const std::string& own) {
  std::istringstream lines(own);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("0::/")) return line.substr(3, line.rfind('/') - 3);
  return {};
}

// Makes the controller one that the groups below have.
void switch_on(const std::string& group, std::string_view controller) {
  const std::string control = group + "/cgroup.subtree_control";
  if (!has_word(cgroup_text(control), controller, ' '))
    write_cgroup_file(control, "+" + std::string(controller));
}

void make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), group_mode) != 0 && errno != EEXIST)
    throw HostError(errno, "make the cgroup '" + path + "'");
}

}  // namespace

CgroupPlace CgroupPlace::here(std::string instance, std::filesystem::path images) {
  return {.mounts = cgroup_text("/proc/self/mounts"),
          .own = cgroup_text("/proc/self/cgroup"),
          .is_root = ::geteuid() == 0,
          .instance = std::move(instance),
          .images = std::move(images)};
}

VmCgroups::VmCgroups(CgroupPlace place) : place_(std::move(place)), disk_(disk_of(place_.images)) {
  const auto unified = cgroup_mount(place_.mounts, {});
  const std::string base = unified ? *unified + (place_.is_root ? "" : group_above(place_.own)) : "";
  const std::string given = unified ? cgroup_text(base + "/cgroup.controllers") : "";
  for (const Kind& kind : kinds()) {
    Controller& controller = controllers_.emplace_back(Controller{.name = kind.name});
    const auto old = cgroup_mount(place_.mounts, kind.old_name);
    if (kind.name == "io" && disk_.empty()) {
      controller.reason = "'" + place_.images.string() + "' is on no block device";
    } else if (has_word(given, kind.name, ' ')) {
      controller.version = 2;
      controller.folder = base + "/" + std::string(parent_name);
    } else if (old && place_.is_root) {
      controller.version = 1;
      controller.folder = *old + "/" + std::string(parent_name);
    } else {
      controller.reason =
          old ? "only root may use cgroups of version 1"
              : "this host gives no such controller" + std::string(place_.is_root ? "" : " to this user");
    }
  }
}

std::vector<std::string> VmCgroups::not_held(const VmLimits& limits) const {
  std::vector<std::string> found;
  for (const Controller& controller : controllers_) {
    if (controller.version != 0) continue;
    for (const std::string_view each : kind_of(controller).limits)
      if (limits.contains(each)) found.push_back(std::string(each) + ": " + controller.reason);
  }
  return found;
}

std::string VmCgroups::folder_of(const Controller& controller, std::int64_t vm) const {
  return controller.folder + "/" + place_.instance + "-" + std::to_string(vm);
}

bool VmCgroups::make_group(Controller& controller, std::int64_t vm) {
  try {
    const fs::path above = fs::path(controller.folder).parent_path();
    if (controller.version == 2) switch_on(above, controller.name);
    make_folder(controller.folder);
    if (controller.version == 2) switch_on(controller.folder, controller.name);
  } catch (const HostError& error) {
    controller.version = 0;
    controller.reason = error.what();
    return false;
  }
  make_folder(folder_of(controller, vm));
  return true;
}

void VmCgroups::make(std::int64_t vm, const VmLimits& limits) {
  for (Controller& controller : controllers_) {
    if (controller.version == 0) continue;
    const Kind& kind = kind_of(controller);
    const std::string folder = folder_of(controller, vm) + "/";
    const std::vector<Setting> settings = kind.settings(limits, controller.version, disk_);
    // Also in a group that is there, for this or for another controller of the same hierarchy.
    const bool has_limits = ::access((folder + settings.front().file).c_str(), F_OK) == 0;
    if (!has_limits && (!wants(limits, kind) || !make_group(controller, vm))) continue;
    for (const Setting& each : settings) write_cgroup_file(folder + each.file, each.value);
  }
}

void VmCgroups::enter(std::int64_t vm, pid_t pid) const {
  std::set<std::string> entered;
  for (const Controller& controller : controllers_) {
    const std::string folder = controller.version == 0 ? "" : folder_of(controller, vm);
    if (folder.empty() || ::access(folder.c_str(), F_OK) != 0 || !entered.insert(folder).second) continue;
    write_cgroup_file(folder + "/cgroup.procs", std::to_string(pid));
  }
}

bool VmCgroups::remove(std::int64_t vm) const {
  bool all = true;
  for (const Controller& controller : controllers_) {
    if (controller.folder.empty()) continue;
    if (::rmdir(folder_of(controller, vm).c_str()) == 0)
      ::rmdir(controller.folder.c_str());  // unless another VM has a group in it
    else if (errno != ENOENT)
      all = false;
  }
  return all;
}

std::vector<std::int64_t> VmCgroups::vms() const {
  std::set<std::int64_t> found;
  const std::string prefix = place_.instance + "-";
  for (const Controller& controller : controllers_) {
    std::error_code error;
    for (fs::directory_iterator at(controller.folder, error); !error && at != fs::directory_iterator();
         at.increment(error)) {
      const std::string name = at->path().filename();
      std::int64_t number = 0;
      if (!name.starts_with(prefix)) continue;
      const char* const end = name.data() + name.size();
      if (std::from_chars(name.data() + prefix.size(), end, number).ptr == end) found.insert(number);
    }
  }
  return {found.begin(), found.end()};
}

bool VmCgroups::ran_out_of_memory(std::int64_t vm) const {
  for (const Controller& controller : controllers_) {
    if (controller.name != "memory" || controller.version == 0) continue;
    std::istringstream words(cgroup_text(
        folder_of(controller, vm) + (controller.version == 2 ? "/memory.events" : "/memory.oom_control")));
    std::string name;
    for (std::uint64_t count = 0; words >> name >> count;)
      if (name == "oom_kill") return count > 0;
  }
  return false;
}

}  // namespace hum
