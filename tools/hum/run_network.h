// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "vmm/machine/vm_config.h"

namespace hum {

struct RunOptions;

// The networks of a VM that `hum run` starts.
struct RunNetwork {
  std::vector<DeviceConfig> devices;
  bool has_dhcp = false;     // the guest finds a server in one of them, for certain
  bool dispensable = false;  // nobody asked for it: where it cannot be had the VM does without
};

// From --net and --publish; with neither a Linux guest has a user network. Throws ConfigError.
RunNetwork choose_network(const RunOptions& options, bool linux_guest);

// Says in one line that the VM has no network, and why.
void tell_of_no_network(const std::string& reason);

}  // namespace hum
