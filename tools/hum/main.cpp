// SPDX-License-Identifier: Apache-2.0
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "tools/hum/completion.h"
#include "tools/hum/devices_command.h"
#include "tools/hum/disk_command.h"
#include "tools/hum/doctor/doctor_command.h"
#include "tools/hum/exit_codes.h"
#include "tools/hum/kernel_command.h"
#include "tools/hum/probe_command.h"
#include "tools/hum/run_command.h"
#include "tools/hum/standard_streams.h"
#include "tools/hum/test/test_command.h"
#include "tools/hum/usage.h"
#include "tools/hum/vm/apply_command.h"
#include "tools/hum/vm/object_command.h"
#include "tools/hum/vm/project_command.h"
#include "tools/hum/vm/vm_command.h"
#include "vmm/base/errors.h"
#include "vmm/base/open_file_limit.h"

namespace {

constexpr const char* version = "hum " HUM_VERSION;

int fail(const std::exception& error) {
  std::fprintf(stderr, "hum: %s\n", error.what());
  return hum::exit_bad_request;
}

int dispatch(std::vector<std::string> arguments) {
  // What stands behind -- is a command of the guest and none of the parser's business.
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  hum::RunOptions run;
  if (dashes != arguments.end()) {
    run.command.assign(dashes + 1, arguments.end());
    if (run.command.empty())
      throw hum::ConfigError("--", "", "no command stands behind it", "give one, like: hum run -- uname -a");
    arguments.erase(dashes, arguments.end());
  }
  CLI::App app("Hummingbird: launches virtual machines under KVM.", "hum");
  app.set_version_flag("--version", version);
  app.require_subcommand(1);
  app.fallthrough(false);
  int code = 0;
  hum::add_run_options(
      *app.add_subcommand("run", "Boot a VM in the foreground: hum run [OPTIONS] [-- CMD...]"), run);
  hum::TestCommand test(*app.add_subcommand("test", "Run guest test images and tell how each ended"), code);
  hum::KernelCommand kernel(*app.add_subcommand("kernel", "Fetch and list guest kernels"), code);
  hum::DiskCommand disk(*app.add_subcommand("disk", "Make, check, convert and resize disk images"), code);
  hum::VmCommand vm(*app.add_subcommand("vm", "Launch VMs that the daemon keeps, and manage them"), code);
  hum::ObjectCommand images(*app.add_subcommand("image", "Kernels and disks that VMs are made of"),
                            hum::ObjectCommand::Kind::image, code);
  hum::ObjectCommand volumes(*app.add_subcommand("volume", "Disks that outlive VMs"),
                             hum::ObjectCommand::Kind::volume, code);
  hum::ObjectCommand networks(*app.add_subcommand("network", "Networks of VMs"),
                              hum::ObjectCommand::Kind::network, code);
  hum::ProjectCommand projects(*app.add_subcommand("project", "Quotas of projects, which VMs belong to"),
                               code);
  hum::ApplyCommand apply(*app.add_subcommand("apply", "Make VMs and what they need what a file says"), code);
  hum::EventsCommand events(*app.add_subcommand("events", "Print what the daemon's VMs do, as it happens"),
                            code);
  hum::DevicesCommand devices(*app.add_subcommand("devices", "List the kinds of devices and their options"),
                              code);
  hum::add_probe_command(
      *app.add_subcommand("probe", "Tell whether KVM runs a distribution's kernel at full speed"), code);
  hum::DoctorCommand doctor(
      *app.add_subcommand("doctor", "Tell what this host can do for VMs, or what a VM will lack"), code);
  std::string shell;
  CLI::App& completion = *app.add_subcommand("completion", "Print a completion script for a shell");
  completion.add_option("shell", shell, "bash, zsh or fish")->required();
  completion.footer("Example: hum completion bash > /etc/bash_completion.d/hum");
  completion.callback([&] { std::fputs(hum::completion_script(app, shell).c_str(), stdout); });
  std::reverse(arguments.begin(), arguments.end());  // as the parser wants them
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw hum::usage_error(app, error);
    return app.exit(error);  // --help, --version
  }
  if (!app.got_subcommand("run") && !run.command.empty())
    throw hum::ConfigError("--", run.command.front(), "only 'hum run' takes a command");
  return app.got_subcommand("run") ? hum::run(run) : code;
}

}  // namespace

int main(int argc, char** argv) {
  hum::open_standard_streams();
  hum::raise_open_file_limit();
  ::mallopt(M_ARENA_MAX, 1);  // docs/decisions.md, "The threads of a VM's process share one heap"
  try {
    const int code = dispatch({argv + 1, argv + argc});
    // What could not be written, as on a full disk, has not been said.
    if (std::fflush(stdout) != 0) throw hum::HostError(errno, "write to standard output");
    if (std::ferror(stdout) != 0) throw hum::HostError(EIO, "write to standard output");
    return code;
  } catch (const std::exception& error) {
    return fail(error);
  }
}
