// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "vmm/bus/address_decoder.h"
#include "vmm/bus/interrupts.h"
#include "vmm/bus/register_window.h"

namespace hum {

inline constexpr std::uint64_t ioapic_base = 0xfec00000;
inline constexpr std::uint32_t ioapic_pins = 24;  // at most

// An I/O APIC (82093AA datasheet, section 3): each pin that a device asked for is a message interrupt which
// the redirection entry programs. All pins are edge-triggered; an entry programmed as level delivers the same
// and never shows remote IRR. What is triggered while a pin is masked is delivered when it is unmasked. A pin
// that is held high (set_level) therefore delivers once, when it rises.
class Ioapic final : public RegisterWindow, public IrqPins {
 public:
  // Maps its window. pins: 1 to ioapic_pins; guests touch every pin several times as they start, each an
  // exit, so a machine has no more than it needs. msi and mmio outlive it.
  Ioapic(AddressDecoder& mmio, MsiController& msi, std::uint32_t pins = ioapic_pins);

  Interrupt& pin(std::uint32_t number) override;
  std::uint32_t allocate() override;
  void set_level(std::uint32_t number, bool high) override;
  void hold(bool held) override;
  void fields(StateVisitor& visitor) override;

  void read(std::uint64_t offset, std::span<std::byte> data) override;
  void write(std::uint64_t offset, std::span<const std::byte> data) override;

 private:
  struct Pin {
    std::uint64_t redirection = 1u << 16;  // masked
    bool high = false;                     // as set_level left it
    std::unique_ptr<MsiInterrupt> interrupt;
  };

  void apply(Pin& pin);

  MsiController& msi_;
  std::mutex mutex_;  // guards all below
  std::uint32_t selected_ = 0;
  std::uint32_t id_ = 0;
  bool held_ = false;
  std::vector<Pin> pins_;
  AddressDecoder::Mapping mapping_;
};

}  // namespace hum
