// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vmm/kvm/capabilities.h"

namespace hum::doctor {

// The host as the doctor sees it, so that a test can show it any host: files below a folder that stands for
// "/", and the system calls that only ask. Each call answers 0 or the errno that it ended with, unless it
// says otherwise.
struct Host {
  std::string root;          // "": the real one
  std::string program_path;  // $PATH
  bool is_root_user = false;

  std::function<KvmReport()> examine_kvm;
  std::function<int(const std::string& path)> open_device;  // for reading and writing
  std::function<int(const std::string& path)> write_access;
  std::function<int()> io_uring_setup;
  std::function<int()> landlock_abi;  // the version, or -errno
  std::function<int()> seccomp_filter;
  std::function<int()> user_namespace;  // making one
  std::function<rlimit(int resource)> limit;

  // The first 64 KiB of a file, without white space at its end; nothing if it cannot be read.
  std::optional<std::string> read(const std::string& path) const;
  std::optional<std::uint64_t> read_number(const std::string& path) const;
  bool exists(const std::string& path) const;
  // Where an executable of this name is, by the program path and the folders for administrators.
  std::optional<std::string> find_program(const std::string& name) const;
};

// This host.
Host real_host();

}  // namespace hum::doctor
