// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "devices/net/mac_address.h"
#include "vmm/device/device.h"

namespace hum {

// A network interface over a passt of our own, or over a tap of the host.
extern const DeviceKind net_kind;

// What the option mac= says, or without it an address that no other interface has, but for chance.
MacAddress mac_option(const OptionValues& values);

}  // namespace hum
