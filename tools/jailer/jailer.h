// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/jailer/arguments.h"

namespace hum {

// When this process began, for the program's own measure of its start.
struct JailerStart {
  std::uint64_t wall_us = 0;  // CLOCK_MONOTONIC
  std::uint64_t cpu_us = 0;   // CLOCK_PROCESS_CPUTIME_ID

  static JailerStart now();
};

// The program's command line. cpu_us is the process's time so far, parent_cpu_us what went before.
std::vector<std::string> jailed_command(const JailerArguments& arguments, const JailerStart& start,
                                        std::uint64_t cpu_us, std::uint64_t parent_cpu_us);

// Becomes the program in its jail; with --daemonize and --new-pid-ns returns once it has been started in a
// process of its own. This process has one thread, and loses all descriptors but the standard ones. Throws
// ConfigError, HostError, and what the child has thrown as runtime_error: nothing is left behind then.
void run_jailed(const JailerArguments& arguments, const JailerStart& start);

}  // namespace hum
