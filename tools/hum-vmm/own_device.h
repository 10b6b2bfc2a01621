// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/options.h"
#include "vmm/machine/device_facts.h"
#include "vmm/machine/vm_config.h"

namespace hum {

// Devices that clients ask for in the words of hum run --device, beside those of the dialect: {"name",
// "kind", "options"}, any kind of the registry with any option of its table.

// The device of a checked element of the section own_devices. Throws ConfigError: a name that is not
// accepted, an unknown kind, options that its table does not accept, or one that cannot be here.
DeviceConfig own_device(const nlohmann::json& checked);

// The same with its options as they would be.
DeviceOptions own_device_options(const nlohmann::json& checked);

// Adds it to a machine's. Of those that every machine has it takes the place.
void add_own_device(std::vector<DeviceConfig>& devices, DeviceConfig device);

// Options of a table with values as JSON has them, as option text. what names the device in errors. Throws
// ConfigError: no object, an option that is not in the table, a value that is no text, whole number or
// boolean.
std::string own_option_text(std::string_view what, std::span<const OptionSpec> table,
                            const nlohmann::json& options);

}  // namespace hum
