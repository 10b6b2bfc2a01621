// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "vmm/base/state.h"
#include "vmm/bus/interrupts.h"

namespace hum::pci {

inline constexpr std::uint8_t capability_msix = 0x11;

// The MSI-X vectors of one function (PCI Local Bus 3.0, 6.8.2): the capability's control word, the table and
// the pending bits. trigger may be called by any thread and takes no lock; the rest by vCPU threads, several
// at once.
class Msix {
 public:
  // vectors: 1 to 2048. Throws HostError where the host has no more routes. msi outlives this.
  Msix(std::uint16_t vectors, MsiController& msi);

  std::uint16_t vectors() const { return static_cast<std::uint16_t>(interrupts_.size()); }
  std::uint32_t table_bytes() const { return 16u * vectors(); }
  std::uint32_t pending_bytes() const { return (vectors() + 63u) / 64 * 8; }

  // What goes into configuration space behind the capability's first two bytes. The offsets (multiples of 8)
  // are those of the table and of the pending bits in the BAR.
  struct Capability {
    std::array<std::byte, 10> body;
    std::array<std::byte, 10> writable;
  };
  Capability capability(unsigned bar, std::uint32_t table_offset, std::uint32_t pending_offset) const;

  // The control word was written.
  void set_control(std::uint16_t control);

  // While held, no vector is delivered: what is triggered stays pending. Once hold has returned, what was
  // triggered before has arrived.
  void hold(bool held);
  // The table and what is pending; the control word is the function's. Visited while held.
  void fields(StateVisitor& visitor);
  bool enabled() const { return enabled_.load(std::memory_order_relaxed); }

  // The table and the pending bits, by offset from the start of each.
  void read_table(std::uint64_t offset, std::span<std::byte> data) const;
  void write_table(std::uint64_t offset, std::span<const std::byte> data);
  void read_pending(std::uint64_t offset, std::span<std::byte> data) const;

  // Raises a vector. Nothing happens while MSI-X is disabled or if there is no such vector; while it is
  // masked, the interrupt stays pending.
  void trigger(std::uint16_t vector) const {
    if (enabled() && vector < interrupts_.size()) interrupts_[vector]->trigger();
  }
  // The eventfd that trigger signals; -1 where it does nothing.
  int fd(std::uint16_t vector) const {
    return enabled() && vector < interrupts_.size() ? interrupts_[vector]->fd() : -1;
  }

 private:
  bool masked(std::size_t vector) const;
  void apply(std::size_t vector);

  mutable std::mutex mutex_;  // guards the table and the masks
  std::vector<std::byte> table_;
  bool all_masked_ = false;
  bool held_ = false;
  std::atomic<bool> enabled_ = false;
  std::vector<std::unique_ptr<MsiInterrupt>> interrupts_;
};

}  // namespace hum::pci
