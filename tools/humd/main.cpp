// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <exception>

#include "tools/hum/exit_codes.h"
#include "tools/hum/standard_streams.h"
#include "tools/humd/arguments.h"
#include "tools/humd/daemon.h"
#include "vmm/base/open_file_limit.h"

int main(int argc, char** argv) {
  hum::open_standard_streams();
  hum::raise_open_file_limit();
  try {
    const auto arguments = hum::parse_daemon_arguments({argv + 1, argv + argc});
    if (arguments) hum::run_daemon(*arguments);
    return hum::exit_ok;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "humd: %s\n", error.what());
    return hum::exit_bad_request;
  }
}
