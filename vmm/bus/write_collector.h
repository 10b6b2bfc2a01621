// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace hum {

// Guest writes to ports that the kernel collects instead of exiting for each (KVM_REGISTER_COALESCED_MMIO).
// For registers whose writes matter only to a later access, as an address register before its data register.
// Implemented by the kvm layer, and by a fake in tests. Any vCPU thread.
class WriteCollector {
 public:
  virtual ~WriteCollector() = default;

  // From now on writes that lie within [first, first + count) reach the decoder in order, but only with the
  // next access that exits, before that. Where the host refuses, each still exits by itself.
  virtual void collect_writes(std::uint16_t first, std::uint32_t count) = 0;
};

}  // namespace hum
