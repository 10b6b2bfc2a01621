// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "tools/humd/vm_table.h"
#include "tools/humd/workflow.h"

namespace hum {

// What is done with VMs: create, start, stop, kill, pause, resume, restart, delete; and end, for a VM whose
// process has ended by itself. Null: there is no such kind.
const Workflow* vm_workflow(std::string_view kind);

// Whether that may begin in this state. Throws ApiError (409) with what to do, and (404) for an unknown kind.
void check_vm_state(std::string_view kind, const VmRow& vm);

}  // namespace hum
