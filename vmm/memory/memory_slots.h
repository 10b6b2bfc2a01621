// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/memory/guest_address.h"

namespace hum {

// Puts host memory into the guest's physical address space; implemented by the kvm layer.
class MemorySlots {
 public:
  virtual ~MemorySlots() = default;

  // Returns the slot's number. host is page-aligned and stays mapped until remove. Throws HostError.
  virtual std::uint32_t add(GuestRange range, std::byte* host, bool read_only) = 0;
  virtual void remove(std::uint32_t slot) = 0;
};

}  // namespace hum
