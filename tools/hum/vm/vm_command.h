// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/hum/vm/project_command.h"
#include "tools/hum/vm/top_command.h"

namespace CLI {
class App;
}

namespace hum {

// `hum vm ...`: VMs that the daemon keeps.
class VmCommand {
 public:
  // Declares the commands; they run, and set exit_code, when the command line is parsed.
  VmCommand(CLI::App& app, int& exit_code);
  ~VmCommand();
  VmCommand(const VmCommand&) = delete;
  VmCommand& operator=(const VmCommand&) = delete;

 private:
  struct Options;
  void add_creation(CLI::App& app, bool runs, int& exit_code);
  void add_action(CLI::App& app, const std::string& kind, const std::string& help, int& exit_code);
  int create(bool starts);
  int act(const std::string& kind);
  int remove();
  int list();
  int inspect();
  int logs();
  int wait();
  int update();
  int rename();
  int stats();

  std::unique_ptr<Options> options_;
  std::unique_ptr<CapacityCommand> capacity_;
  std::unique_ptr<TopCommand> top_;
};

}  // namespace hum
