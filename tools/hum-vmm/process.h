// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tools/hum-vmm/arguments.h"

namespace hum {

// Exit codes besides 0 and what the guest's exit port says.
inline constexpr int vmm_exit_failed = 1;
inline constexpr int vmm_exit_bad_configuration = 152;
inline constexpr int vmm_exit_bad_arguments = 153;
inline constexpr int vmm_exit_hangup = 156;

// Serves the API and runs the VM until it ends, or a signal ends it: SIGHUP with a code of its own, SIGTERM
// and SIGINT as if nobody had caught them, but with the disks in order. Returns the exit code. Throws
// ConfigError, HostError where it could not begin.
int run_vmm(const VmmArguments& arguments);

}  // namespace hum
