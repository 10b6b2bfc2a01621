// SPDX-License-Identifier: Apache-2.0
#include <malloc.h>

#include <cstdio>
#include <exception>
#include <optional>

#include "tools/hum-vmm/arguments.h"
#include "tools/hum-vmm/process.h"
#include "tools/hum/standard_streams.h"
#include "vmm/base/open_file_limit.h"

int main(int argc, char** argv) {
  hum::open_standard_streams();
  hum::raise_open_file_limit();
  ::mallopt(M_ARENA_MAX, 1);  // docs/decisions.md, "The threads of a VM's process share one heap"
  std::optional<hum::VmmArguments> arguments;
  try {
    arguments = hum::parse_arguments({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hum-vmm: %s\n", error.what());
    return hum::vmm_exit_bad_arguments;
  }
  if (!arguments) return 0;
  try {
    return hum::run_vmm(*arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hum-vmm: %s\n", error.what());
    return hum::vmm_exit_failed;
  }
}
