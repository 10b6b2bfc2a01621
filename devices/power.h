// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "devices/byte_registers.h"
#include "vmm/device/device.h"

namespace hum {

// The fixed hardware of a hardware-reduced ACPI machine (vmm/acpi/fixed_hardware.h): soft-off and reset
// registers, and the power button with the generic event device (ACPI 6.5, 5.6.9) that reports it. The
// machine's thread presses the button, vCPU threads do the rest.
class Power : public PlatformDevice, private ByteRegisters {
 public:
  explicit Power(DeviceContext& context);

  acpi::Aml acpi_node() const override;
  void declare(acpi::FixedHardware& fixed) const override { fixed.power_block = true; }
  void fields(StateVisitor& visitor) override;
  bool press_power_button() override;

 private:
  std::uint8_t read_register(std::uint64_t offset) override;
  void write_register(std::uint64_t offset, std::uint8_t value) override;

  MachineControl& control_;
  std::uint32_t gsi_;
  Interrupt& event_pin_;
  std::uint8_t events_ = 0;  // guarded by mutex()
  AddressDecoder::Mapping mapping_;
};

extern const DeviceKind power_kind;

}  // namespace hum
