// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "vmm/base/endian.h"
#include "vmm/base/log.h"
#include "vmm/bus/address_decoder.h"
#include "vmm/bus/interrupts.h"
#include "vmm/bus/kicks.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/fake_msi.h"
#include "vmm/virtio/fake_driver.h"
#include "vmm/virtio/virtio_core.h"
#include "vmm/virtio/virtio_device.h"

// A machine around a transport, for tests only.
namespace hum::virtio::testing {

class FakePins final : public IrqPins {
 public:
  class Pin final : public Interrupt {
   public:
    // True if there was an edge since the last call.
    bool take() const { return event_.drain(); }
  };

  Interrupt& pin(std::uint32_t number) override { return pins_.at(number); }
  std::uint32_t allocate() override { return next_++; }
  void set_level(std::uint32_t, bool) override {}
  void hold(bool) override {}
  void fields(StateVisitor&) override {}
  const Pin& fake(std::uint32_t number) const { return pins_.at(number); }

 private:
  std::array<Pin, 24> pins_;
  std::uint32_t next_ = 5;
};

// Remembers what is bound; a write to such a place signals the eventfd, as the kernel would.
class FakeKicks final : public KickRegistry {
 public:
  bool bind(const KickAddress& where, int event_fd) override {
    if (refuse) return false;
    bound.emplace_back(where, event_fd);
    return true;
  }
  void unbind(const KickAddress& where, int event_fd) override {
    const auto erased = std::erase(bound, std::pair(where, event_fd));
    if (erased != 1) mistakes += 1;
  }
  bool take(std::uint64_t address, std::span<const std::byte> data) {
    for (const auto& [where, event_fd] : bound) {
      if (where.address != address || (where.length != 0 && where.length != data.size()) ||
          (where.match && *where.match != load_le(data)))
        continue;
      const std::uint64_t one = 1;
      return ::write(event_fd, &one, sizeof one) == sizeof one;
    }
    return false;
  }

  bool refuse = false;
  unsigned mistakes = 0;  // unbound what was not bound
  std::vector<std::pair<KickAddress, int>> bound;
};

// A device whose queues a test serves itself. Its state outlives it, because a transport owns the device.
class FakeDevice final : public VirtioDevice {
 public:
  struct State {
    std::uint32_t type = 4;
    std::uint64_t features = 0x21;
    std::vector<std::uint16_t> queue_sizes = {256, 64};
    std::array<std::byte, 16> config{};
    bool uses_call_fds = true;
    bool holds_memory = false;
    std::function<void()> on_activate;  // may throw
    std::function<void()> on_deactivate;

    bool active = false;
    unsigned activations = 0;
    unsigned deactivations = 0;  // of an active device
    unsigned flushes = 0;
    std::uint64_t driver_features = 0;
    std::vector<ActiveQueue> queues;
    DeviceEvents* events = nullptr;
  };

  explicit FakeDevice(State& state) : state_(state) {}

  std::uint32_t type() const override { return state_.type; }
  std::uint64_t features() const override { return state_.features; }
  std::span<const std::uint16_t> queue_sizes() const override { return state_.queue_sizes; }
  bool uses_call_fds() const override { return state_.uses_call_fds; }
  bool holds_memory() const override { return state_.holds_memory; }

  void read_config(std::uint32_t offset, std::span<std::byte> data) const override {
    for (std::byte& byte : data) {
      byte = offset < state_.config.size() ? state_.config[offset] : std::byte{0};
      ++offset;
    }
  }
  void write_config(std::uint32_t offset, std::span<const std::byte> data) override {
    for (const std::byte byte : data)
      if (offset < state_.config.size()) state_.config[offset++] = byte;
  }

  void activate(std::uint64_t driver_features, std::vector<ActiveQueue> queues,
                DeviceEvents& events) override {
    if (state_.on_activate) state_.on_activate();
    if (state_.active) throw std::logic_error("activated twice");
    state_.active = true;
    ++state_.activations;
    state_.driver_features = driver_features;
    state_.queues = std::move(queues);
    state_.events = &events;
  }
  std::vector<ActiveQueue> suspend() override {
    if (!std::exchange(state_.active, false)) return {};
    if (state_.on_deactivate) state_.on_deactivate();
    ++state_.deactivations;
    return std::exchange(state_.queues, {});
  }
  void fields(StateVisitor& visitor) override { visitor.number("features", state_.driver_features); }
  void flush(int /*give_up_fd*/) override { ++state_.flushes; }

 private:
  State& state_;
};

// Memory, buses, interrupts and kicks.
struct FakeMachine {
  // Guest accesses to addresses, as a vCPU makes them: first the kernel's kicks, then the windows.
  template <class T>
  T read(std::uint64_t address) {
    T value = static_cast<T>(~T{0});
    mmio.read(address, writable_bytes_of(value));
    return value;
  }
  template <class T>
  void write(std::uint64_t address, std::type_identity_t<T> value) {
    if (!kicks.take(address, bytes_of(value))) mmio.write(address, bytes_of(value));
  }

  GuestMemory memory{std::vector<GuestRange>{{{0}, 4 << 20}}};
  AddressDecoder ports;
  AddressDecoder mmio;
  FakeKicks kicks;
  FakePins pins;
  pci::testing::FakeMsi msi;
  std::vector<std::string> lines;
  Log log{[this](LogLevel, std::string_view text) { lines.emplace_back(text); }};
  TransportContext context{memory, mmio, kicks, log};
};

}  // namespace hum::virtio::testing
