// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/virtio.h"

namespace guest {

// A device and the register that notifies one of its queues, which CPL 3 may write.
struct Doorbell {
  VirtioDevice* device = nullptr;  // nullptr: there is none
  std::uint64_t address = 0;
  bool wide = false;  // 32 bits, over MMIO; else 16
  std::uint16_t queue = 0;

  void ring() const {
    if (wide) return write<std::uint32_t>(address, queue);
    write<std::uint16_t>(address, queue);
  }
};

// The first device of this type on the transport that the command line names (find_virtio_device).
Doorbell find_doorbell(const BootInfo& boot, std::uint32_t type, std::uint16_t queue = 0);

}  // namespace guest
