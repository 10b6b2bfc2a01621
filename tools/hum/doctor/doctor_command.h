// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace hum {

// `hum doctor`: what this host can do for VMs, or, with a kernel or a disk, what will not work in a VM before
// it is started. Exit codes: 0 nothing stands in the way, 1 it runs with limits that matter, 3 none runs.
class DoctorCommand {
 public:
  // Declares the command; it runs, and sets exit_code, when the command line is parsed.
  DoctorCommand(CLI::App& app, int& exit_code);
  DoctorCommand(const DoctorCommand&) = delete;
  DoctorCommand& operator=(const DoctorCommand&) = delete;

 private:
  int examine() const;

  std::string kernel_;
  std::string initrd_;
  std::vector<std::string> disks_;
  std::string command_line_;
  std::vector<std::string> append_;
  std::string transport_ = "pci";
  bool json_ = false;
};

}  // namespace hum
