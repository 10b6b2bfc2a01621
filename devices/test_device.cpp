// SPDX-License-Identifier: Apache-2.0
#include "devices/test_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <string_view>
#include <vector>

#include "devices/byte_registers.h"
#include "vmm/acpi/fixed_hardware.h"
#include "vmm/base/endian.h"
#include "vmm/base/state.h"

namespace hum {
namespace {

constexpr std::uint16_t latch_port = 0xe0;
constexpr std::uint16_t flush_port = 0xe4;
constexpr std::uint16_t bytes_port = 0xe8;
constexpr std::uint16_t lines_port = 0x2000;
constexpr std::uint16_t shutdown_port = 0x8900;
constexpr std::uint64_t memory_base = 0xff000000;

constexpr std::uint64_t latch_size = 4;
constexpr std::uint64_t bytes_size = 8;
constexpr std::uint64_t line_count = 24;
constexpr std::uint64_t memory_size = 64 * 1024;

// Keeps what is written to it.
class Latches final : public ByteRegisters {
 public:
  explicit Latches(std::uint64_t size) : ByteRegisters(size), bytes_(size) {}

  void fields(StateVisitor& visitor, std::string_view name) {
    const std::lock_guard lock(mutex());
    visitor.bytes(name, std::as_writable_bytes(std::span(bytes_)));
  }

 private:
  std::uint8_t read_register(std::uint64_t offset) override { return bytes_[offset]; }
  void write_register(std::uint64_t offset, std::uint8_t value) override { bytes_[offset] = value; }

  std::vector<std::uint8_t> bytes_;  // guarded by mutex()
};

// Makes KVM forget a page, so that the guest's next access takes the path of a page fault. Whoever uses the
// page meanwhile, another vCPU or a device, notices nothing: it can be read and written at any moment.
class PageFlush final : public RegisterWindow {
 public:
  explicit PageFlush(const GuestMemory& memory) : memory_(memory) {}

  void read(std::uint64_t, std::span<std::byte>) override {}
  void write(std::uint64_t offset, std::span<const std::byte> data) override {
    constexpr std::uint64_t page_size = 4096;
    const GuestRange page{GuestAddress{load_le(data) & ~(page_size - 1)}, page_size};
    if (offset != 0 || !memory_.contains(page)) return;
    std::vector<iovec> parts;
    memory_.for_read(page, parts);
    // A change of the mapping's rights is what the kernel tells KVM of.
    for (const int rights : {PROT_READ | PROT_WRITE | PROT_EXEC, PROT_READ | PROT_WRITE})
      for (const iovec& part : parts) ::mprotect(part.iov_base, part.iov_len, rights);
  }

 private:
  const GuestMemory& memory_;
};

class InterruptLines final : public RegisterWindow {
 public:
  explicit InterruptLines(IrqPins& pins) : pins_(pins) {}

  void read(std::uint64_t, std::span<std::byte>) override {}
  void write(std::uint64_t offset, std::span<const std::byte> data) override {
    pins_.set_level(static_cast<std::uint32_t>(offset), load_le(data) != 0);
  }

 private:
  IrqPins& pins_;
};

// ACPI 6.5, 4.8.3.3. Starts at 0 with the machine.
class PmTimer final : public RegisterWindow {
 public:
  // While nothing reads it.
  void fields(StateVisitor& visitor) {
    lived_ = lived();
    visitor.number("timer", lived_);
    visitor.afterwards([this] { start_ = Clock::now() - std::chrono::nanoseconds(lived_); });
  }

  void read(std::uint64_t offset, std::span<std::byte> data) override {
    constexpr std::uint64_t nanoseconds = 1'000'000'000;
    const std::uint64_t now = lived();
    const std::uint64_t ticks =
        now / nanoseconds * acpi::pm_timer_hertz + now % nanoseconds * acpi::pm_timer_hertz / nanoseconds;
    const std::span<std::byte> known =
        data.first(std::min<std::size_t>(data.size(), acpi::pm_timer_size - offset));
    store_le(known, ticks >> (8 * offset));
  }
  void write(std::uint64_t, std::span<const std::byte>) override {}

 private:
  using Clock = std::chrono::steady_clock;

  std::uint64_t lived() const {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(Clock::now() - start_).count());
  }

  Clock::time_point start_ = Clock::now();
  std::uint64_t lived_ = 0;  // nanoseconds, for fields
};

class ShutdownText final : public ByteRegisters {
 public:
  explicit ShutdownText(MachineControl& control) : ByteRegisters(1), control_(control) {}

  void fields(StateVisitor& visitor) {
    const std::lock_guard lock(mutex());
    visitor.number("shutdown-letters", seen_, text.size() - 1);
  }

 private:
  static constexpr std::string_view text = "Shutdown";

  std::uint8_t read_register(std::uint64_t) override { return 0xff; }
  void write_register(std::uint64_t, std::uint8_t value) override {
    const auto letter = static_cast<char>(value);
    if (letter != text[seen_]) seen_ = 0;
    if (letter == text[seen_]) ++seen_;
    if (seen_ < text.size()) return;
    seen_ = 0;
    control_.power_off();
  }

  MachineControl& control_;
  std::size_t seen_ = 0;  // of the text; guarded by mutex()
};

class TestDevice final : public PlatformDevice {
 public:
  explicit TestDevice(DeviceContext& context)
      : flush_(context.memory), lines_(context.irqs), shutdown_(context.control) {
    AddressDecoder& ports = context.ports;
    mappings_.push_back(ports.map("testdev", latch_port, latch_size, latch_));
    mappings_.push_back(ports.map("testdev", flush_port, latch_size, flush_));
    mappings_.push_back(ports.map("testdev", bytes_port, bytes_size, bytes_));
    mappings_.push_back(ports.map("testdev", lines_port, line_count, lines_));
    mappings_.push_back(ports.map("testdev", shutdown_port, 1, shutdown_));
    mappings_.push_back(ports.map("testdev", acpi::pm_timer_port, acpi::pm_timer_size, timer_));
    mappings_.push_back(context.mmio.map("testdev", memory_base, memory_size, memory_));
  }

  void declare(acpi::FixedHardware& fixed) const override { fixed.pm_timer = true; }

  void fields(StateVisitor& visitor) override {
    latch_.fields(visitor, "latch");
    bytes_.fields(visitor, "bytes");
    memory_.fields(visitor, "memory");
    shutdown_.fields(visitor);
    timer_.fields(visitor);
  }

 private:
  Latches latch_{latch_size};
  PageFlush flush_;
  Latches bytes_{bytes_size};
  InterruptLines lines_;
  ShutdownText shutdown_;
  PmTimer timer_;
  Latches memory_{memory_size};
  std::vector<AddressDecoder::Mapping> mappings_;  // last: go before the windows
};

std::unique_ptr<PlatformDevice> make(const OptionValues& /*options*/, DeviceContext& context) {
  return std::make_unique<TestDevice>(context);
}

}  // namespace

constinit const DeviceKind test_device_kind{
    .name = "testdev",
    .help = "what kvm-unit-tests expects: latches, interrupt lines, a PM timer, page flush",
    .options = {},
    .create = make,
};

}  // namespace hum
