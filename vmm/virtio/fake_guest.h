// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "vmm/bus/fake_write_collector.h"
#include "vmm/pci/pci_bus.h"
#include "vmm/virtio/mmio_transport.h"
#include "vmm/virtio/pci_transport.h"
#include "vmm/virtio/testing_fakes.h"

// Drivers that work a transport by its registers, for tests only.
namespace hum::virtio::testing {

inline constexpr std::uint64_t ecam = 0xe0000000;
inline constexpr std::uint32_t mmio_base = 0xd0000000;
inline constexpr std::uint64_t good_features =
    0x21 | feature_version_1 | feature_indirect_desc | feature_event_idx;
inline constexpr GuestAddress guest_data{0x200000};

// What a driver does, whichever the transport.
class Guest {
 public:
  virtual ~Guest() = default;
  virtual Transport& transport() = 0;
  virtual std::uint8_t status() = 0;
  virtual void set_status(std::uint8_t value) = 0;
  virtual std::uint64_t offered() = 0;
  virtual void accept(std::uint32_t word, std::uint32_t value) = 0;
  virtual void select(std::uint16_t queue) = 0;
  virtual std::uint32_t largest_size() = 0;  // of the selected queue, before any size was written
  virtual void set_size(std::uint16_t size) = 0;
  virtual void set_address(unsigned ring, std::uint64_t address) = 0;
  virtual void enable() = 0;
  virtual bool enabled() = 0;
  virtual void notify(std::uint16_t queue) = 0;
  virtual std::uint64_t config_address() = 0;
  virtual std::uint32_t generation() = 0;
  virtual bool take_queue_interrupt(std::uint16_t queue) = 0;
  virtual bool take_config_interrupt() = 0;

  void accept(std::uint64_t features) {
    accept(0, static_cast<std::uint32_t>(features));
    accept(1, static_cast<std::uint32_t>(features >> 32));
  }
  void negotiate(std::uint64_t features = good_features) {
    set_status(0);
    set_status(1);
    set_status(3);
    accept(features);
    set_status(11);
  }
  void set_queue(std::uint16_t index, const FakeQueue& ring) {
    select(index);
    set_size(ring.size());
    set_address(0, ring.descriptors().value);
    set_address(1, ring.available().value);
    set_address(2, ring.used().value);
    enable();
  }
  // Up to DRIVER_OK with two queues.
  void start(std::uint64_t features = good_features) {
    rings.clear();
    rings.emplace_back(machine.memory, GuestAddress{0x10000}, std::uint16_t{16});
    rings.emplace_back(machine.memory, GuestAddress{0x20000}, std::uint16_t{64});
    negotiate(features);
    set_queue(0, rings[0]);
    set_queue(1, rings[1]);
    set_status(15);
  }

  FakeMachine machine;
  FakeDevice::State device;
  std::vector<FakeQueue> rings;
};

class MmioGuest final : public Guest {
 public:
  MmioGuest() {
    transport_.emplace(machine.context, std::make_unique<FakeDevice>(device), "fake", mmio_base,
                       machine.pins);
  }
  Transport& transport() override { return *transport_; }
  const MmioTransport& mmio_transport() const { return *transport_; }
  std::uint32_t get(std::uint64_t reg) { return machine.read<std::uint32_t>(mmio_base + reg); }
  void set(std::uint64_t reg, std::uint32_t value) { machine.write<std::uint32_t>(mmio_base + reg, value); }

  std::uint8_t status() override { return static_cast<std::uint8_t>(get(0x70)); }
  void set_status(std::uint8_t value) override { set(0x70, value); }
  std::uint64_t offered() override {
    set(0x14, 1);
    const std::uint64_t high = get(0x10);
    set(0x14, 0);
    return high << 32 | get(0x10);
  }
  using Guest::accept;
  void accept(std::uint32_t word, std::uint32_t value) override {
    set(0x24, word);
    set(0x20, value);
  }
  void select(std::uint16_t queue) override { set(0x30, queue); }
  std::uint32_t largest_size() override { return get(0x34); }
  void set_size(std::uint16_t size) override { set(0x38, size); }
  void set_address(unsigned ring, std::uint64_t address) override {
    set(0x80 + 0x10 * ring, static_cast<std::uint32_t>(address));
    set(0x84 + 0x10 * ring, static_cast<std::uint32_t>(address >> 32));
  }
  void enable() override { set(0x44, 1); }
  bool enabled() override { return get(0x44) == 1; }
  void notify(std::uint16_t queue) override { set(0x50, queue); }
  std::uint64_t config_address() override { return mmio_base + 0x100; }
  std::uint32_t generation() override { return get(0xfc); }
  bool take_queue_interrupt(std::uint16_t) override { return take(1); }
  bool take_config_interrupt() override { return take(2); }

 private:
  bool take(std::uint32_t reason) {
    if (!machine.pins.fake(transport_->pin()).take()) return false;
    const std::uint32_t status = get(0x60);
    set(0x64, status);
    return (status & reason) != 0 && get(0x60) == 0;
  }

  std::optional<MmioTransport> transport_;
};

class PciGuest final : public Guest {
 public:
  explicit PciGuest(bool with_msix = true) {
    transport_.emplace(machine.context, std::make_unique<FakeDevice>(device), "fake", machine.msi);
    if (bus.add(*transport_) != 1) throw std::logic_error("device 1 is taken");
    // Finds the structures as a driver does: by their capabilities.
    for (std::uint64_t at = config<std::uint8_t>(0x34); at != 0; at = config<std::uint8_t>(at + 1)) {
      if (config<std::uint8_t>(at) == 0x11) msix = at;
      if (config<std::uint8_t>(at) != 0x09) continue;
      const auto type = config<std::uint8_t>(at + 3);
      if (type < 1 || type > 5) throw std::logic_error("a structure nobody knows");
      if (config<std::uint8_t>(at + 2) != (type == 2 || type == 5 ? 20 : 16))
        throw std::logic_error("a capability has the wrong length");
      offset[type] = config<std::uint32_t>(at + 8);
      length[type] = config<std::uint32_t>(at + 12);
      if (type == 2) multiplier = config<std::uint32_t>(at + 16);
      if (type == 5) access = at;
    }
    bar = config<std::uint64_t>(0x10) & ~std::uint64_t{15};
    set_config<std::uint16_t>(4, 6);
    if (with_msix) {
      for (std::uint32_t vector = 0; vector < 3; ++vector) {
        const std::uint64_t entry = bar + config<std::uint32_t>(msix + 4) + 16 * vector;
        machine.write<std::uint32_t>(entry, 0xfee00000);
        machine.write<std::uint32_t>(entry + 8, 0x40 + vector);
        machine.write<std::uint32_t>(entry + 12, 0);
      }
      set_config<std::uint16_t>(msix + 2, 0x8000);
    }
  }
  template <class T>
  T config(std::uint64_t at) {
    return machine.read<T>(ecam + 0x8000 + at);
  }
  template <class T>
  void set_config(std::uint64_t at, std::type_identity_t<T> value) {
    machine.write<T>(ecam + 0x8000 + at, value);
  }
  template <class T>
  T get(std::uint64_t reg) {
    return machine.read<T>(bar + offset[1] + reg);
  }
  template <class T>
  void set(std::uint64_t reg, std::type_identity_t<T> value) {
    machine.write<T>(bar + offset[1] + reg, value);
  }

  Transport& transport() override { return *transport_; }
  std::uint8_t status() override { return get<std::uint8_t>(0x14); }
  void set_status(std::uint8_t value) override { set<std::uint8_t>(0x14, value); }
  std::uint64_t offered() override {
    set<std::uint32_t>(0, 1);
    const std::uint64_t high = get<std::uint32_t>(4);
    set<std::uint32_t>(0, 0);
    return high << 32 | get<std::uint32_t>(4);
  }
  using Guest::accept;
  void accept(std::uint32_t word, std::uint32_t value) override {
    set<std::uint32_t>(8, word);
    set<std::uint32_t>(0xc, value);
  }
  void select(std::uint16_t queue) override { set<std::uint16_t>(0x16, queue); }
  std::uint32_t largest_size() override { return get<std::uint16_t>(0x18); }
  void set_size(std::uint16_t size) override { set<std::uint16_t>(0x18, size); }
  void set_address(unsigned ring, std::uint64_t address) override {
    set<std::uint32_t>(0x20 + 8 * ring, static_cast<std::uint32_t>(address));
    set<std::uint32_t>(0x24 + 8 * ring, static_cast<std::uint32_t>(address >> 32));
  }
  void enable() override {
    // Queue i has vector i, configuration vector 2.
    set<std::uint16_t>(0x1a, get<std::uint16_t>(0x16));
    set<std::uint16_t>(0x10, 2);
    set<std::uint16_t>(0x1c, 1);
  }
  bool enabled() override { return get<std::uint16_t>(0x1c) == 1; }
  std::uint64_t notify_address(std::uint16_t queue) { return bar + offset[2] + multiplier * queue; }
  void notify(std::uint16_t queue) override { machine.write<std::uint16_t>(notify_address(queue), queue); }
  std::uint64_t config_address() override { return bar + offset[4]; }
  std::uint32_t generation() override { return get<std::uint8_t>(0x15); }
  bool take_queue_interrupt(std::uint16_t queue) override {
    return machine.msi.interrupts[queue]->delivered() == 1;
  }
  bool take_config_interrupt() override { return machine.msi.interrupts[2]->delivered() == 1; }

  hum::testing::FakeWriteCollector collector;
  pci::PciBus bus{{.ecam = {ecam}, .mmio32_first = 0xc0000000, .mmio32_last = 0xc0ffffff},
                  machine.ports,
                  machine.mmio,
                  collector};
  std::uint64_t bar = 0;
  std::uint64_t msix = 0;
  std::uint64_t access = 0;
  std::array<std::uint32_t, 6> offset{};
  std::array<std::uint32_t, 6> length{};
  std::uint32_t multiplier = 0;

 private:
  std::optional<PciTransport> transport_;
};

}  // namespace hum::virtio::testing
