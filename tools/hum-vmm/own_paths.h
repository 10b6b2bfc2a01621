// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "tools/http/api_message.h"
#include "tools/hum-vmm/microvm.h"

namespace hum {

// Whether a path belongs to this program's own API, beside the dialect's.
bool is_own_path(std::string_view path);

// Answers one request of the own API. Whatever it is, there is an answer. On the VM's thread.
ApiAnswer answer_own(Microvm& vm, const ApiRequest& request);

}  // namespace hum
