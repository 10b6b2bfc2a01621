// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "vmm/bus/interrupts.h"

// For tests only.
namespace hum::pci::testing {

// An interrupt whose messages are counted instead of delivered.
class FakeMsiInterrupt final : public MsiInterrupt {
 public:
  void configure(const MsiMessage& to, bool mask) override {
    ++configured;
    if (!mask) message = to;
    masked = mask;
  }
  // The messages a guest would have got since the last call: 1 if there was a signal and it is not masked.
  unsigned delivered() const { return !masked && event_.drain() ? 1 : 0; }

  MsiMessage message;
  bool masked = true;
  unsigned configured = 0;
};

// Hands out interrupts and remembers them, in order.
class FakeMsi final : public MsiController {
 public:
  std::unique_ptr<MsiInterrupt> create_interrupt() override {
    auto interrupt = std::make_unique<FakeMsiInterrupt>();
    interrupts.push_back(interrupt.get());
    return interrupt;
  }

  std::vector<FakeMsiInterrupt*> interrupts;
};

}  // namespace hum::pci::testing
