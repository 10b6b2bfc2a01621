// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/device/device.h"

namespace hum {

// Port 0xf4: a write ends the VM and its value becomes the guest's exit code.
extern const DeviceKind debug_exit_kind;

}  // namespace hum
