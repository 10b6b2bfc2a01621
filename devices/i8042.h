// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/device/device.h"

namespace hum {

// The reset line of the PC's keyboard controller, and nothing else of it.
extern const DeviceKind i8042_kind;

}  // namespace hum
