// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "tools/humd/object.h"
#include "tools/humd/vm_table.h"
#include "tools/humd/workflow.h"

namespace hum {

// The operations on each type of object: their steps by the operation's kind. Null: there is no such kind.
const Workflow* vm_workflow(std::string_view kind);
const Workflow* find_workflow(ObjectType type, std::string_view kind);

// Throws ApiError (409): a VM in that state takes no such operation.
void check_vm_state(std::string_view kind, const VmRow& vm);

}  // namespace hum
