// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tools/hum/vm/daemon_client.h"
#include "tools/hum/vm/top_table.h"

namespace hum {

// `hum vm top`: what VMs use, again and again.
class TopCommand {
 public:
  // Declares the command; it runs, and sets exit_code, when the command line is parsed. The address is the
  // caller's, complete by then.
  TopCommand(CLI::App& app, const DaemonAddress& daemon, int& exit_code);
  TopCommand(const TopCommand&) = delete;
  TopCommand& operator=(const TopCommand&) = delete;

 private:
  int run();
  int watch(DaemonClient& client);
  // Of those that are named, or of all. must_be: one that there is not is an error.
  std::vector<VmSample> sample(DaemonClient& client, bool must_be) const;

  const DaemonAddress& daemon_;
  std::vector<std::string> names_;
  double interval_ = 1;
  bool is_json_ = false;
  bool once_ = false;
};

}  // namespace hum
