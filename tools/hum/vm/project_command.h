// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "tools/hum/vm/daemon_client.h"

namespace CLI {
class App;
}

namespace hum {

// `hum project ...`: what the VMs of a project may be together.
class ProjectCommand {
 public:
  // Declares the commands; they run, and set exit_code, when the command line is parsed.
  ProjectCommand(CLI::App& app, int& exit_code);
  ~ProjectCommand();
  ProjectCommand(const ProjectCommand&) = delete;
  ProjectCommand& operator=(const ProjectCommand&) = delete;

 private:
  struct Options;
  int list();
  int set();
  int inspect();
  int remove();

  std::unique_ptr<Options> options_;
};

// `hum vm capacity`: how many more VMs there is room for.
class CapacityCommand {
 public:
  // As ProjectCommand; the address is the caller's, complete by then.
  CapacityCommand(CLI::App& app, const DaemonAddress& daemon, int& exit_code);
  ~CapacityCommand();
  CapacityCommand(const CapacityCommand&) = delete;
  CapacityCommand& operator=(const CapacityCommand&) = delete;

 private:
  struct Options;
  int run();

  std::unique_ptr<Options> options_;
};

}  // namespace hum
