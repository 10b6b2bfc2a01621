// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/hum/doctor/disk_facts.h"

namespace hum::doctor {

// The last value of a word "name=value" of a kernel's command line; nothing if it is not there.
std::optional<std::string> command_line_value(const std::string& command_line, const std::string& name);

// Where root= leads, over the disks in the guest's order (vda, vdb, ...). Source: Linux,
// Documentation/admin-guide/kernel-parameters.txt, root=.
struct RootDevice {
  std::optional<std::string> name;       // "/dev/vda1"; nothing: no disk or partition is meant by it
  const DiskContent* content = nullptr;  // of it, if found
  std::string problem;                   // why it is not found; empty: it is, or it does not name a disk
  bool needs_initrd = false;             // Linux by itself does not know this way of naming
  bool names_disk = true;                // false: a network or memory
};
RootDevice find_root(const std::string& root, const std::vector<DiskFacts>& disks);

// 0 -> "vda", 26 -> "vdaa".
std::string disk_name(std::size_t index);

}  // namespace hum::doctor
