// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace hum {

// `hum run`: what was said on its command line.
struct RunOptions {
  std::map<std::string, std::string> machine;  // of machine_options(), those that were given
  std::string kernel;
  std::string initrd;
  std::optional<std::string> cmdline;
  std::vector<std::string> append;
  std::vector<std::string> modules;
  std::vector<std::string> disks;
  std::vector<std::string> networks;
  std::vector<std::string> publish;  // ports
  std::vector<std::string> devices;
  bool random = true;
  std::string console = "auto";
  std::string record;
  std::string symbols;
  std::vector<std::string> environment;
  std::string directory;
  std::string hostname;
  unsigned stop_timeout = 10;
  unsigned timeout = 0;
  int verbosity = 0;
  std::vector<std::string> command;  // what came behind --
};

// Declares the options on a subcommand; they are filled in when it is parsed.
void add_run_options(CLI::App& app, RunOptions& options);

// Boots the VM and returns the program's exit code. Throws ConfigError, HostError.
int run(const RunOptions& options);

}  // namespace hum
