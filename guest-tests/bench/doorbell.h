// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/virtio.h"

namespace guest {

// A device and the register that notifies its queue 0, which CPL 3 may write.
struct Doorbell {
  VirtioDevice* device = nullptr;  // nullptr: there is none
  std::uint64_t address = 0;
  bool wide = false;  // 32 bits, over MMIO; else 16

  void ring() const {
    if (wide) return write<std::uint32_t>(address, 0);
    write<std::uint16_t>(address, 0);
  }
};

// The first device of this type on the transport that the command line names (find_virtio_device).
Doorbell find_doorbell(const BootInfo& boot, std::uint32_t type);

}  // namespace guest
