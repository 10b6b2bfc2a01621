// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "vmm/machine/vm_config.h"

namespace hum {

// What the checked body of PUT /cpu-config asks for. Throws ConfigError.
CpuTemplate cpu_template_of(const nlohmann::json& checked);

}  // namespace hum
