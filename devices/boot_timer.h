// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

#include "vmm/device/device.h"

namespace hum {

// A byte at 0xc0000000, where Firecracker has it: a guest that has started writes 123, and the log says how
// long it took.
extern const DeviceKind boot_timer_kind;

// A moment as its options have it: CLOCK_MONOTONIC, and the process's CPU time.
struct BootMoment {
  std::chrono::microseconds wall{};
  std::chrono::microseconds cpu{};

  static BootMoment now();
};

}  // namespace hum
