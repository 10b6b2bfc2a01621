// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>
#include <span>

#include "vmm/bus/register_window.h"

namespace hum {

// A window of 8-bit registers, as the devices of the ISA bus have: a wider access is one to each register in
// turn, lowest first, as that bus does it. What lies past the last register reads as all ones and ignores
// writes. A whole access runs under the window's mutex.
class ByteRegisters : public RegisterWindow {
 public:
  explicit ByteRegisters(std::uint64_t count) : count_(count) {}

  void read(std::uint64_t offset, std::span<std::byte> data) final {
    const std::lock_guard lock(mutex_);
    for (std::byte& byte : data) {
      if (offset >= count_) return;
      byte = std::byte{read_register(offset++)};
    }
  }
  void write(std::uint64_t offset, std::span<const std::byte> data) final {
    const std::lock_guard lock(mutex_);
    for (const std::byte byte : data) {
      if (offset >= count_) return;
      write_register(offset++, std::to_integer<std::uint8_t>(byte));
    }
  }

 protected:
  // Called with the mutex held and a valid offset.
  virtual std::uint8_t read_register(std::uint64_t offset) = 0;
  virtual void write_register(std::uint64_t offset, std::uint8_t value) = 0;

  std::mutex& mutex() { return mutex_; }

 private:
  std::uint64_t count_;
  std::mutex mutex_;
};

}  // namespace hum
