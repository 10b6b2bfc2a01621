// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/probe_command.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <system_error>

#include "vmm/kvm/probe.h"

namespace hum {

void add_probe_command(CLI::App& app, int& exit_code) {
  app.footer("Exit codes: 0 native, 1 emulated, 2 none.");
  app.callback([&exit_code] {
    try {
      const double nanoseconds = supervisor_nanoseconds_per_instruction(Kvm());
      const bool native = nanoseconds < emulated_supervisor_nanoseconds;
      std::puts(native ? "native" : "emulated");
      exit_code = native ? 0 : 1;
    } catch (const std::system_error& error) {
      std::fprintf(stderr, "hum: %s\n", error.what());
      std::puts("none");
      exit_code = 2;
    }
  });
}

}  // namespace hum
