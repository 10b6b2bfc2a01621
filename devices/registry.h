// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "vmm/device/device.h"

namespace hum {

// Every kind of device there is; handed to the Vm that makes them.
std::span<const DeviceKind* const> all_devices();

// The devices that a machine has without being asked: what a stock kernel needs to start, speak and end.
std::vector<DeviceConfig> standard_devices();

// Adds a device to a machine's; a keyboard takes the place of i8042, whose port it has.
void add_device(std::vector<DeviceConfig>& devices, DeviceConfig device);

}  // namespace hum
