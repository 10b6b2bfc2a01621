// SPDX-License-Identifier: Apache-2.0
#include "devices/pvpanic.h"

#include "devices/byte_registers.h"

namespace hum {
namespace {

constexpr std::uint16_t port = 0x505;

constexpr std::uint8_t panicked = 1 << 0;      // the guest is dead
constexpr std::uint8_t crash_loaded = 1 << 1;  // it has panicked and handles that itself (kdump)

// The pvpanic port (QEMU, "PVPANIC device" specification): reads as the events that are supported, a write
// is an event.
class Pvpanic : public PlatformDevice, private ByteRegisters {
 public:
  explicit Pvpanic(DeviceContext& context)
      : ByteRegisters(1), control_(context.control), mapping_(context.ports.map("pvpanic", port, 1, *this)) {}

  acpi::Aml acpi_node() const override {
    return acpi::device("PVPN", {
                                    acpi::name("_HID", acpi::string("QEMU0001")),
                                    acpi::name("_CRS", acpi::resources({acpi::io_port(port, 1)})),
                                });
  }

 private:
  std::uint8_t read_register(std::uint64_t /*offset*/) override { return panicked | crash_loaded; }
  void write_register(std::uint64_t /*offset*/, std::uint8_t value) override {
    if ((value & panicked) != 0) control_.guest_panicked();
  }

  MachineControl& control_;
  AddressDecoder::Mapping mapping_;
};

std::unique_ptr<PlatformDevice> make(const OptionValues& /*options*/, DeviceContext& context) {
  return std::make_unique<Pvpanic>(context);
}

}  // namespace

constinit const DeviceKind pvpanic_kind{
    .name = "pvpanic",
    .help = "port 0x505: the guest's kernel reports a panic",
    .options = {},
    .create = make,
};

}  // namespace hum
