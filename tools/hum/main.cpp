// SPDX-License-Identifier: Apache-2.0
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <memory>
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

using Built = std::shared_ptr<void>;  // what the options of a subcommand refer to

struct Subcommand {
  const char* name;
  const char* text;
  Built (*build)(CLI::App& app, int& code);
};

template <typename Command>
Built build(CLI::App& app, int& code) {
  return std::make_shared<Command>(app, code);
}

template <hum::ObjectCommand::Kind kind>
Built build_objects(CLI::App& app, int& code) {
  return std::make_shared<hum::ObjectCommand>(app, kind, code);
}

Built build_probe(CLI::App& app, int& code) {
  hum::add_probe_command(app, code);
  return {};
}

// Beside run and completion.
constexpr Subcommand subcommands[] = {
    {"test", "Run guest test images and tell how each ended", build<hum::TestCommand>},
    {"kernel", "Fetch and list guest kernels", build<hum::KernelCommand>},
    {"disk", "Make, check, convert and resize disk images", build<hum::DiskCommand>},
    {"vm", "Launch VMs that the daemon keeps, and manage them", build<hum::VmCommand>},
    {"image", "Kernels and disks that VMs are made of", build_objects<hum::ObjectCommand::Kind::image>},
    {"volume", "Disks that outlive VMs", build_objects<hum::ObjectCommand::Kind::volume>},
    {"network", "Networks of VMs", build_objects<hum::ObjectCommand::Kind::network>},
    {"project", "Quotas of projects, which VMs belong to", build<hum::ProjectCommand>},
    {"apply", "Make VMs and what they need what a file says", build<hum::ApplyCommand>},
    {"events", "Print what the daemon's VMs do, as it happens", build<hum::EventsCommand>},
    {"devices", "List the kinds of devices and their options", build<hum::DevicesCommand>},
    {"probe", "Tell whether KVM runs a distribution's kernel at full speed", build_probe},
    {"doctor", "Tell what this host can do for VMs, or what a VM will lack", build<hum::DoctorCommand>},
};

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
  // All are known, and those that are wanted have their options: to make those of all takes longer than a
  // small VM's life.
  const std::string wanted = arguments.empty() ? "" : arguments.front();
  const bool all = wanted == "completion";
  std::vector<Built> built;
  CLI::App& runs = *app.add_subcommand("run", "Boot a VM in the foreground: hum run [OPTIONS] [-- CMD...]");
  if (all || wanted == "run") hum::add_run_options(runs, run);
  for (const Subcommand& each : subcommands) {
    CLI::App& subcommand = *app.add_subcommand(each.name, each.text);
    if (all || wanted == each.name) built.push_back(each.build(subcommand, code));
  }
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
