// SPDX-License-Identifier: Apache-2.0
#include "devices/debug_exit.h"

#include "vmm/base/endian.h"

namespace hum {
namespace {

constexpr std::uint16_t port = 0xf4;
constexpr std::uint16_t port_count = 4;

// The port where guest tests leave with a code. Has no state, so any number of vCPUs may write at once; the
// machine takes the first.
class DebugExit : public PlatformDevice, private RegisterWindow {
 public:
  explicit DebugExit(DeviceContext& context)
      : control_(context.control), mapping_(context.ports.map("debug-exit", port, port_count, *this)) {}

 private:
  void read(std::uint64_t /*offset*/, std::span<std::byte> /*data*/) override {}
  void write(std::uint64_t offset, std::span<const std::byte> data) override {
    if (offset == 0 && data.size() <= port_count)
      control_.debug_exit(static_cast<std::uint32_t>(load_le(data)));
  }

  MachineControl& control_;
  AddressDecoder::Mapping mapping_;
};

std::unique_ptr<PlatformDevice> make(const OptionValues& /*options*/, DeviceContext& context) {
  return std::make_unique<DebugExit>(context);
}

}  // namespace

constinit const DeviceKind debug_exit_kind{
    .name = "debug-exit",
    .help = "port 0xf4: a write ends the VM with that exit code",
    .options = {},
    .create = make,
};

}  // namespace hum
