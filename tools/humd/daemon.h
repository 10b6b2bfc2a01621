// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tools/humd/arguments.h"

namespace hum {

// Serves the API and keeps the VMs until SIGTERM or SIGINT, which end the daemon and no VM. Throws
// ConfigError, HostError, StoreError where it cannot begin.
void run_daemon(const DaemonArguments& arguments);

}  // namespace hum
