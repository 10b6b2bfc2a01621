// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/bus/interrupts.h"
#include "vmm/bus/kicks.h"
#include "vmm/kvm/abi.h"
#include "vmm/kvm/kvm.h"
#include "vmm/memory/memory_slots.h"

namespace hum {

// One KVM VM: its memory slots, interrupt routes and kicks. Set-up in this order, which is the cheap one:
// memory slots, then the interrupt controller, then vCPUs; kicks only when a driver starts. Routes and kicks
// may be changed from any thread.
class KvmVm final : public MemorySlots, public MsiController, public KickRegistry {
 public:
  // kvm outlives the VM. Throws HostError.
  explicit KvmVm(const Kvm& kvm);

  const Kvm& kvm() const { return kvm_; }
  int fd() const { return fd_.get(); }

  std::uint32_t add(GuestRange range, std::byte* host, bool read_only) override;
  void remove(std::uint32_t slot) override;

  // LAPICs in the kernel, the I/O APIC ours. Throws HostError.
  void create_split_irqchip();
  // LAPICs, I/O APIC, PIC and PIT in the kernel. Throws HostError.
  void create_full_irqchip();

  std::unique_ptr<MsiInterrupt> create_interrupt() override;

  bool bind(const KickAddress& where, int event_fd) override;
  void unbind(const KickAddress& where, int event_fd) override;

 private:
  class Route;

  bool set_route(std::uint32_t gsi, const MsiMessage& message);
  bool change_kick(const KickAddress& where, int event_fd, std::uint32_t flags);

  const Kvm& kvm_;
  Fd fd_;
  std::vector<GuestRange> slots_;  // size 0: free
  std::mutex mutex_;               // guards the two below
  std::vector<kvm_irq_routing_entry> routes_;
  std::vector<bool> gsi_taken_;
};

// The pins of the kernel's own I/O APIC and PIC, for a VM with create_full_irqchip.
class KernelIrqPins final : public IrqPins {
 public:
  explicit KernelIrqPins(const KvmVm& vm) : vm_(vm), pins_(24) {}

  Interrupt& pin(std::uint32_t number) override;
  std::uint32_t allocate() override;

 private:
  class Pin;
  const KvmVm& vm_;
  std::vector<std::unique_ptr<Interrupt>> pins_;
};

}  // namespace hum
