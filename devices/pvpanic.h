// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/device/device.h"

namespace hum {

// The pvpanic device of the ISA bus: a guest kernel with the driver says here that it has panicked.
extern const DeviceKind pvpanic_kind;

}  // namespace hum
