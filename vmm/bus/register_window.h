// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace hum {

// A range of ports or of physical addresses that a device answers. Called by vCPU threads, several at once:
// an implementation that has state takes one mutex of its own, which no I/O thread ever takes. Guests access
// at any offset and with any width of 1, 2, 4 or 8 bytes; what makes no sense reads as all ones or zero and
// is ignored on write. Must not throw.
class RegisterWindow {
 public:
  virtual ~RegisterWindow() = default;

  // data arrives filled with 0xff, the answer of a bus with nothing on it.
  virtual void read(std::uint64_t offset, std::span<std::byte> data) = 0;
  virtual void write(std::uint64_t offset, std::span<const std::byte> data) = 0;
};

}  // namespace hum
