// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hum {

// A cgroup's file and what is written into it: "cpuset.cpus", "0-1".
struct CgroupSetting {
  std::string file;
  std::string value;

  std::string controller() const { return file.substr(0, file.find('.')); }
  bool operator==(const CgroupSetting&) const = default;
};

// The command line, with the flags of Firecracker's jailer.
struct JailerArguments {
  std::string id;
  std::string exec_file;
  uid_t uid = 0;
  gid_t gid = 0;
  std::string base = "/srv/jailer";
  std::string netns;  // empty: this process's
  bool daemonize = false;
  bool new_pid_namespace = false;
  unsigned cgroup_version = 1;
  std::string parent_cgroup;  // relative; like the executable's name where it was not given
  std::vector<CgroupSetting> cgroups;
  std::optional<std::uint64_t> most_file_bytes;
  std::uint64_t most_open_files = 2048;
  std::vector<std::string> passed_on;  // all behind --

  // The last part of exec_file as it was given: the jail and its files are named after it.
  std::string exec_name() const;
};

// None where the command line was answered by itself (--version, --help). Looks at no file. Throws
// ConfigError.
std::optional<JailerArguments> parse_jailer_arguments(const std::vector<std::string>& arguments);

}  // namespace hum
