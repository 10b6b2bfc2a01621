// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/device/device.h"

// A machine without KVM, for the tests of devices only.
namespace hum::testing {

// Remembers what devices asked for.
class FakeControl : public MachineControl {
 public:
  void power_off() override { ++power_offs; }
  void reset() override { ++resets; }
  void debug_exit(std::uint32_t code) override { exit_codes.push_back(code); }
  void guest_panicked() override { ++panics; }
  // From a device's own thread.
  void want_pause(std::string_view reason) override {
    const std::lock_guard lock(mutex_);
    pause_reasons_.emplace_back(reason);
  }
  std::vector<std::string> pause_reasons() const {
    const std::lock_guard lock(mutex_);
    return pause_reasons_;
  }

  int power_offs = 0;
  int resets = 0;
  int panics = 0;
  std::vector<std::uint32_t> exit_codes;

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> pause_reasons_;
};

class FakePin : public Interrupt {
 public:
  // True if the pin was triggered since the last call.
  bool take() const { return event_.drain(); }
};

class FakePins : public IrqPins {
 public:
  FakePin& pin(std::uint32_t number) override { return pins_.at(number); }
  std::uint32_t allocate() override {
    if (next_ == pins_.size()) throw ConfigError("irq", "", "all interrupt pins are taken");
    return next_++;
  }
  void set_level(std::uint32_t number, bool high) override { levels.emplace_back(number, high); }
  void hold(bool) override {}
  void fields(StateVisitor&) override {}

  std::vector<std::pair<std::uint32_t, bool>> levels;  // as they were set

 private:
  std::array<FakePin, 24> pins_;
  std::uint32_t next_ = 5;
};

// The slots that there are, by their numbers. From any thread.
class FakeSlots : public MemorySlots {
 public:
  struct Slot {
    GuestRange range;
    std::byte* host = nullptr;
    bool read_only = false;
  };

  std::uint32_t add(GuestRange range, std::byte* host, bool read_only) override {
    const std::lock_guard lock(mutex_);
    if (refused) throw HostError(ENOMEM, "give the guest its memory");
    slots_[next_] = {range, host, read_only};
    return next_++;
  }
  void remove(std::uint32_t slot) override {
    const std::lock_guard lock(mutex_);
    slots_.erase(slot);
  }
  std::vector<Slot> all() const {
    const std::lock_guard lock(mutex_);
    std::vector<Slot> slots;
    for (const auto& [number, slot] : slots_) slots.push_back(slot);
    return slots;
  }

  std::atomic<bool> refused = false;

 private:
  mutable std::mutex mutex_;
  std::map<std::uint32_t, Slot> slots_;
  std::uint32_t next_ = 0;
};

// All that a device gets from a machine, with a little RAM. Accesses go through the decoders as a vCPU's do.
class FakeMachine {
 public:
  explicit FakeMachine(std::uint64_t ram = 1 << 20)
      : memory(std::array{GuestRange{GuestAddress{0}, ram}}),
        device_memory(memory, slots, {1ull << 32}),
        context{memory, ports, mmio, pins, control, console, log, device_memory} {}

  // A read of `width` bytes; nothing if no window is there.
  std::optional<std::uint64_t> in(std::uint64_t port, std::size_t width = 1) {
    return read(ports, port, width);
  }
  bool out(std::uint64_t port, std::uint64_t value, std::size_t width = 1) {
    return write(ports, port, value, width);
  }
  std::optional<std::uint64_t> load(std::uint64_t address, std::size_t width = 4) {
    return read(mmio, address, width);
  }
  bool store(std::uint64_t address, std::uint64_t value, std::size_t width = 4) {
    return write(mmio, address, value, width);
  }

  GuestMemory memory;
  AddressDecoder ports;
  AddressDecoder mmio;
  FakePins pins;
  FakeControl control;
  ConsoleHub console;
  Log log;
  FakeSlots slots;
  DeviceMemory device_memory;
  DeviceContext context;

 private:
  static std::optional<std::uint64_t> read(AddressDecoder& space, std::uint64_t address, std::size_t width) {
    std::array<std::byte, 8> data;
    data.fill(std::byte{0xff});
    if (!space.read(address, std::span(data).first(width))) return std::nullopt;
    return load_le(std::span(data).first(width));
  }
  static bool write(AddressDecoder& space, std::uint64_t address, std::uint64_t value, std::size_t width) {
    std::array<std::byte, 8> data;
    store_le(data, value);
    return space.write(address, std::span(data).first(width));
  }
};

// Makes a platform device the way the machine does, from option text.
inline std::unique_ptr<PlatformDevice> make_platform_device(const DeviceKind& kind, FakeMachine& machine,
                                                            std::string_view text = {}) {
  const OptionValues values = OptionValues::parse(kind.name, kind.options, text);
  return std::get<DeviceKind::PlatformFactory>(kind.create)(values, machine.context);
}

inline bool contains(const acpi::Aml& node, const acpi::Aml& part) {
  return std::search(node.begin(), node.end(), part.begin(), part.end()) != node.end();
}

// Every width at every offset of the window, both directions: a
// device must survive what no driver does.
inline void access_everything(FakeMachine& machine, std::uint64_t base, std::uint64_t size) {
  for (const std::size_t width : {1u, 2u, 4u, 8u}) {
    for (std::uint64_t offset = 0; offset < size; ++offset) {
      for (const std::uint64_t value : {std::uint64_t{0}, UINT64_MAX, std::uint64_t{0xa5a5a5a5a5a5a5a5}}) {
        machine.out(base + offset, value, width);
        machine.in(base + offset, width);
      }
    }
  }
}

}  // namespace hum::testing
