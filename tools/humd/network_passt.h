// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "devices/net/published_port.h"

namespace hum {

// A VM's network where there is no root: a passt of its own, which is started beside the VMM.
struct PasstPlan {
  std::string socket;    // where the VMM connects to
  std::string pid_file;  // written once it serves
  std::vector<PublishedPort> ports;
};

// The program and its arguments. It stays in the foreground, serves the first who connects, and ends with
// that connection. Throws ConfigError: there can be no such network on this host, a path is too long for a
// socket, or a port is taken.
std::vector<std::string> passt_command(const PasstPlan& plan);

}  // namespace hum
