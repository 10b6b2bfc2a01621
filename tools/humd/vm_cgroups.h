// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// What a VM's process may take of the host at most, by the names of the fields of a VM's limits: cpu_percent
// of one processor, cpu_weight (1 to 10,000; 100 is usual), memory_mib, pids, read_mib_s, write_mib_s,
// read_ops and write_ops per second. What is not there has no limit.
using VmLimits = std::map<std::string, std::uint64_t, std::less<>>;

// The host as far as control groups need it.
struct CgroupPlace {
  std::string mounts;    // the text of /proc/self/mounts
  std::string own;       // the text of /proc/self/cgroup
  bool is_root = false;  // who may make groups anywhere; others beside their own group alone
  std::string instance;  // of the store: groups are "hummingbird/INSTANCE-ID" below the place for them
  std::filesystem::path images;  // what is on the disk that limits of I/O are for

  static CgroupPlace here(std::string instance, std::filesystem::path images);
};

// The control groups that hold VMs' processes to their limits: version 2 where it has the controller, else
// version 1. Belongs to the logic's thread.
class VmCgroups {
 public:
  explicit VmCgroups(CgroupPlace place);

  struct Controller {
    std::string_view name;  // "cpu", "memory", "pids", "io"
    int version = 0;        // 0: the host does not give it
    std::string reason{};   // why it does not
    std::string folder{};   // the groups' parent
  };
  const std::vector<Controller>& controllers() const { return controllers_; }
  // Which of these limits this host cannot hold, and why, in words; empty: it holds them all.
  std::vector<std::string> not_held(const VmLimits& limits) const;

  // Makes the groups that a VM's limits need and writes the limits, also over those that are there. What the
  // host turns out not to give is in not_held from then on. Throws HostError: it refuses a value.
  void make(std::int64_t vm, const VmLimits& limits);
  // The process is in the VM's groups from now on. Throws HostError.
  void enter(std::int64_t vm, pid_t pid) const;
  // False: a process is in one still.
  bool remove(std::int64_t vm) const;
  // The VMs that have groups.
  std::vector<std::int64_t> vms() const;
  // Whether the host has ended a process of it because it wanted more memory than its limit.
  bool ran_out_of_memory(std::int64_t vm) const;

 private:
  std::string folder_of(const Controller& controller, std::int64_t vm) const;
  // False: the host does not give the controller; its reason says why.
  bool make_group(Controller& controller, std::int64_t vm);

  CgroupPlace place_;
  std::string disk_;  // "8:0"; empty: I/O limits have no disk
  std::vector<Controller> controllers_;
};

}  // namespace hum
