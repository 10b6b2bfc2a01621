// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

namespace hum {

// A guest write that signals an eventfd in the kernel instead of exiting (KVM_IOEVENTFD).
struct KickAddress {
  std::uint64_t address = 0;                // guest physical
  std::uint32_t length = 0;                 // of the write in bytes; 0: any
  std::optional<std::uint32_t> match = {};  // only this value

  bool operator==(const KickAddress&) const = default;
};

// Implemented by the kvm layer, and by a fake in tests. Any vCPU thread.
class KickRegistry {
 public:
  virtual ~KickRegistry() = default;

  // False where the host refuses: the write then exits and the register window signals the eventfd itself.
  virtual bool bind(const KickAddress& where, int event_fd) = 0;
  // Undoes bind, with the same arguments.
  virtual void unbind(const KickAddress& where, int event_fd) = 0;
};

}  // namespace hum
