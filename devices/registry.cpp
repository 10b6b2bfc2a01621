// SPDX-License-Identifier: Apache-2.0
#include "devices/registry.h"

#include <array>

#include "devices/balloon/balloon_device.h"
#include "devices/block/block_device.h"
#include "devices/cmos.h"
#include "devices/console/virtio_console.h"
#include "devices/debug_exit.h"
#include "devices/entropy.h"
#include "devices/i8042.h"
#include "devices/keyboard.h"
#include "devices/net/net_kind.h"
#include "devices/power.h"
#include "devices/pvpanic.h"
#include "devices/serial.h"
#include "devices/test_device.h"
#include "devices/vhost_user/vhost_user_block.h"
#include "devices/vhost_user/vhost_user_net.h"
#include "devices/vsock/vsock_device.h"

namespace hum {
namespace {

constexpr auto kinds = std::to_array<const DeviceKind*>({
    &serial_kind,
    &power_kind,
    &i8042_kind,
    &cmos_kind,
    &pvpanic_kind,
    &debug_exit_kind,
    &block_kind,
    &net_kind,
    &entropy_kind,
    &console_kind,
    &test_device_kind,
    &vhost_user_block_kind,
    &vhost_user_net_kind,
    &vsock_kind,
    &balloon_kind,
    &keyboard_kind,
});

}  // namespace

std::span<const DeviceKind* const> all_devices() {
  return kinds;
}

std::vector<DeviceConfig> standard_devices() {
  return {{"serial", ""}, {"power", ""}, {"i8042", ""}, {"cmos", ""}, {"pvpanic", ""}, {"debug-exit", ""}};
}

}  // namespace hum
