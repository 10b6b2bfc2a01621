// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/bus/interrupts.h"
#include "vmm/bus/kicks.h"
#include "vmm/bus/write_collector.h"
#include "vmm/kvm/abi.h"
#include "vmm/kvm/kvm.h"
#include "vmm/memory/memory_slots.h"

namespace hum {

// One KVM VM: its memory slots, interrupt routes and kicks. Set-up in this order, which is the cheap one:
// memory slots, then the interrupt controller, then vCPUs; kicks only when a driver starts. Slots, routes,
// kicks and collected writes may be changed from any thread.
class KvmVm final : public MemorySlots, public MsiController, public KickRegistry, public WriteCollector {
 public:
  // kvm and log outlive the VM. Throws HostError.
  KvmVm(const Kvm& kvm, const Log& log);

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

  void collect_writes(std::uint16_t first, std::uint32_t count) override;
  // Held by the vCPU that takes collected writes out of the ring, which all vCPUs share.
  std::mutex& collected_writes_mutex() { return collected_writes_mutex_; }

 private:
  class Route;

  bool set_route(std::uint32_t gsi, const MsiMessage& message);
  bool change_kick(const KickAddress& where, int event_fd, std::uint32_t flags);
  void place_tss();
  void warn_of_refusal(std::string_view what);

  const Kvm& kvm_;
  const Log& log_;
  std::atomic<bool> warned_ = false;
  Fd fd_;
  std::mutex slots_mutex_;
  std::vector<GuestRange> slots_;  // size 0: free
  std::mutex mutex_;               // guards the two below
  std::vector<kvm_irq_routing_entry> routes_;
  std::vector<bool> gsi_taken_;
  std::mutex collected_writes_mutex_;
};

// The pins of the kernel's own I/O APIC and PIC, for a VM with create_full_irqchip.
class KernelIrqPins final : public IrqPins {
 public:
  explicit KernelIrqPins(const KvmVm& vm);
  ~KernelIrqPins() override;

  Interrupt& pin(std::uint32_t number) override;
  std::uint32_t allocate() override;
  void set_level(std::uint32_t number, bool high) override;
  void hold(bool held) override;
  void fields(StateVisitor& visitor) override;

 private:
  class Pin;
  const KvmVm& vm_;
  std::vector<std::unique_ptr<Pin>> pins_;
};

}  // namespace hum
