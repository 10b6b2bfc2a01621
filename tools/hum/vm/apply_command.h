// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tools/hum/vm/apply_plan.h"
#include "tools/hum/vm/daemon_client.h"

namespace CLI {
class App;
}

namespace hum {

// `hum apply`: makes what the daemon keeps what a file says.
class ApplyCommand {
 public:
  // Declares the command; it runs, and sets exit_code, when the command line is parsed.
  ApplyCommand(CLI::App& app, int& exit_code);
  ApplyCommand(const ApplyCommand&) = delete;
  ApplyCommand& operator=(const ApplyCommand&) = delete;

 private:
  int run();
  std::vector<WantedObject> wanted() const;
  static FoundObjects look(DaemonClient& client, const std::vector<WantedObject>& wanted);
  static void check(DaemonClient& client, const std::vector<WantedObject>& wanted, const FoundObjects& found);
  // Whether the plan is to be carried out.
  bool is_agreed() const;
  void carry_out(DaemonClient& client, const std::vector<WantedObject>& wanted, const ApplyPlan& plan) const;

  DaemonAddress daemon_;
  std::string file_;
  bool dry_run_ = false;
  bool yes_ = false;
  bool restarts_ = false;
  bool is_json_ = false;
};

}  // namespace hum
