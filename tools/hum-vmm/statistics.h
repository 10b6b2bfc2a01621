// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "vmm/base/console_hub.h"
#include "vmm/machine/end_record.h"

namespace hum {

// What a VM has done since its start, as GET /hum/v1/statistics tells it.
nlohmann::json statistics_json(const EndRecord& record, const ConsoleHub::Traffic& console);

// The same in the text format of Prometheus, version 0.0.4.
std::string statistics_text(const EndRecord& record, const ConsoleHub::Traffic& console);

}  // namespace hum
