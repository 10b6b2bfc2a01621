// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "devices/byte_registers.h"
#include "vmm/device/device.h"

namespace hum {

// The PC's clock and its battery-backed memory (Motorola MC146818A), at ports 0x70 (index) and 0x71 (data).
// It shows the host's time in UTC, in BCD and with 24 hours; the guest cannot set it and it raises no
// interrupt: alarm registers only store. Any vCPU thread.
class Cmos : public PlatformDevice, private ByteRegisters {
 public:
  using Time = std::chrono::system_clock::time_point;
  using Clock = Time (*)();

  explicit Cmos(DeviceContext& context, Clock now = std::chrono::system_clock::now);

  acpi::Aml acpi_node() const override;
  void declare(acpi::FixedHardware& fixed) const override { fixed.cmos_clock = true; }
  void fields(StateVisitor& visitor) override;

 private:
  std::uint8_t read_register(std::uint64_t offset) override;
  void write_register(std::uint64_t offset, std::uint8_t value) override;
  std::uint8_t read_data() const;

  Clock now_;
  std::uint8_t index_ = 0;
  std::array<std::uint8_t, 128> stored_{};  // the registers that the clock does not answer
  AddressDecoder::Mapping mapping_;
};

extern const DeviceKind cmos_kind;

}  // namespace hum
