// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tools/hum/vm/apply_file.h"

namespace hum {

// One request to the daemon.
struct ApplyStep {
  std::string action;  // "create", "stop"...
  std::string type;
  std::string name;
  SharedJson changes{};              // by field: what it was and what it is to be
  std::vector<std::string> later{};  // of them, those that count from the VM's next start on
  std::string method;
  std::string target;
  SharedJson body{};       // null: none
  std::string if_match{};  // the ETag of what was looked at
};

struct ApplyPlan {
  std::vector<ApplyStep> steps;
  std::size_t unchanged = 0;  // objects that are as they should be
};

// What there is, by type and name, as the daemon answers; what is not there is not in it. A VM has besides,
// as "after", the answer to a dry run of vm_change.
using FoundObjects = std::map<std::pair<std::string, std::string>, SharedJson>;

// The fields to change of a VM so that it becomes what a file wants: what the file does not say gets its
// default again, but for what it boots and its networks, which were chosen when it was made.
nlohmann::json vm_change(const WantedObject& wanted, const nlohmann::json& vm);

// What leads from there to here: what is to go away stops and goes first, VMs start when all is there that
// they need, by their start order, and what VMs needed goes last. restarts: VMs that run are restarted where
// a change needs it. Throws ConfigError: something is there that cannot become what is wanted.
ApplyPlan plan_of(const std::vector<WantedObject>& wanted, const FoundObjects& found, bool restarts);

// The plan for people, as a table with a line below it, and for programs.
std::string plan_text(const ApplyPlan& plan);
nlohmann::json plan_json(const ApplyPlan& plan);

}  // namespace hum
