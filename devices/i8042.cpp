// SPDX-License-Identifier: Apache-2.0
#include "devices/i8042.h"

#include "devices/byte_registers.h"

namespace hum {
namespace {

constexpr std::uint16_t command_port = 0x64;
constexpr std::uint8_t command_pulse_reset = 0xfe;

// Status: all ones, as where nothing is, but for 'input buffer full'. Before a reset Linux waits for that bit
// to clear, up to 65,536 reads. A probe, by contrast, must see 'output buffer full' stay set: it then gives
// up after some 16 bytes, whereas an empty buffer makes it send commands and wait 10,000 reads for each
// answer.
constexpr std::uint8_t status_input_full = 1 << 1;
constexpr std::uint8_t status = 0xff & ~status_input_full;

// Port 0x64 only: the data port, 0x60, is left unmapped and so reads as all ones.
class I8042 : public PlatformDevice, private ByteRegisters {
 public:
  explicit I8042(DeviceContext& context)
      : ByteRegisters(1),
        control_(context.control),
        mapping_(context.ports.map("i8042", command_port, 1, *this)) {}

 private:
  std::uint8_t read_register(std::uint64_t /*offset*/) override { return status; }
  void write_register(std::uint64_t /*offset*/, std::uint8_t value) override {
    if (value == command_pulse_reset) control_.reset();
  }

  MachineControl& control_;
  AddressDecoder::Mapping mapping_;
};

std::unique_ptr<PlatformDevice> make(const OptionValues& /*options*/, DeviceContext& context) {
  return std::make_unique<I8042>(context);
}

}  // namespace

constinit const DeviceKind i8042_kind{
    .name = "i8042",
    .help = "the keyboard controller's reset command at port 0x64",
    .options = {},
    .create = make,
};

}  // namespace hum
