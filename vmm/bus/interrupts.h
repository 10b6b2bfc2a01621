// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "vmm/base/fd.h"
#include "vmm/base/state.h"

namespace hum {

// A message-signalled interrupt: a write of data to address (Intel SDM volume 3, 11.11).
struct MsiMessage {
  std::uint64_t address = 0;
  std::uint32_t data = 0;

  bool operator==(const MsiMessage&) const = default;
};

// A source of one interrupt: an eventfd, so that any thread, the kernel or another process can raise it. The
// pins of the interrupt controller and the vectors of MSI-X are both this. Edge semantics: one or more
// signals are one interrupt.
class Interrupt {
 public:
  virtual ~Interrupt() = default;

  int fd() const { return event_.fd(); }
  void trigger() const { event_.signal(); }

  // Whether it was triggered and not delivered. Visited while its controller holds it.
  void visit_pending(StateVisitor& visitor) const {
    const bool pending = visitor.flag_of("pending", event_.pending());
    visitor.afterwards([this, pending] {
      event_.drain();
      if (pending) trigger();
    });
  }

 protected:
  EventFd event_;
};

// An interrupt with a message that its owner programs. What is triggered while it is masked stays pending in
// the eventfd and is delivered when it is unmasked. trigger, fd and pending from any thread; configure from
// one thread at a time.
class MsiInterrupt : public Interrupt {
 public:
  // Cheap if nothing changes. Starts masked with an empty message. Must not throw for anything a guest can
  // write; a host that refuses leaves the interrupt masked.
  virtual void configure(const MsiMessage& message, bool masked) = 0;
  bool pending() const { return event_.pending(); }
};

// Makes message interrupts; implemented by the kvm layer, and by a fake in tests.
class MsiController {
 public:
  virtual ~MsiController() = default;

  // Throws HostError where the host has no more routes. The interrupt is destroyed before the controller.
  virtual std::unique_ptr<MsiInterrupt> create_interrupt() = 0;
};

// The input pins of the machine's interrupt controller (an I/O APIC), edge-triggered but for set_level.
class IrqPins {
 public:
  virtual ~IrqPins() = default;

  // The pin with this number (below 24, as many as the machine has), which lives as long as the machine.
  virtual Interrupt& pin(std::uint32_t number) = 0;
  // The number of a pin nobody has yet, from 5 on. Throws ConfigError when all are taken.
  virtual std::uint32_t allocate() = 0;
  // Holds a pin high or low, for lines that behave as wires. A controller that knows no levels takes a rise
  // for a trigger. Ignored for a pin that the machine does not have. Any thread.
  virtual void set_level(std::uint32_t number, bool high) = 0;

  // While held, no pin is delivered: what is triggered stays pending. Once hold has returned, what was
  // triggered before has arrived.
  virtual void hold(bool held) = 0;
  // Registers and what is pending. Visited while held.
  virtual void fields(StateVisitor& visitor) = 0;
};

}  // namespace hum
