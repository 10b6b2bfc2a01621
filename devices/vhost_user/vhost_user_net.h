// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/device/device.h"

namespace hum {

// A network interface whose frames another process carries, over a Unix socket. There are no limits, captures
// and filters, which are for frames that pass through this process.
extern const DeviceKind vhost_user_net_kind;

}  // namespace hum
