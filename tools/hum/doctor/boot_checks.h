// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tools/hum/doctor/check.h"

namespace hum::doctor {

// A VM that is to be started, as far as what it boots is concerned.
struct BootPlan {
  std::string kernel;  // empty: only the disks are looked at
  std::string initrd;
  std::vector<std::string> disks;  // in the guest's order
  std::string command_line;
  bool mmio = false;      // virtio devices on the MMIO transport instead of PCI
  std::string host_root;  // stands for "/" where this host's /boot and /lib/modules are read
};

// What will work and what will not. Starts nothing, changes nothing, and trusts none of the files; what is
// wrong with one is a check, not an exception.
std::vector<Check> boot_checks(const BootPlan& plan);

}  // namespace hum::doctor
