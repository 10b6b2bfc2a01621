// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "tools/http/api_message.h"
#include "tools/hum-vmm/identity.h"
#include "tools/hum-vmm/microvm.h"

namespace hum {

// Answers one request in Firecracker's dialect. Whatever it is, there is an answer. On the VM's thread.
ApiAnswer answer(Microvm& vm, const ApiRequest& request);

// Of a file that the command line or a configuration names. Throws HostError.
std::string file_content(const std::string& path);

// Takes a config file: every section that it has, or an error and whatever came before. Throws ConfigError,
// HostError.
void load_config(Microvm& vm, std::string_view text);

}  // namespace hum
