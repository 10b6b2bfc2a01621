// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vm_state.h"

#include <array>
#include <cstdint>
#include <memory>

#include "vmm/kvm/abi.h"
#include "vmm/kvm/kvm.h"

namespace hum {
namespace {

struct FullIrqchip {
  std::array<kvm_irqchip, 3> chips{};
  kvm_pit_state2 pit{};

  FullIrqchip() {
    for (std::uint32_t id = 0; id < chips.size(); ++id) chips[id].chip_id = id;
  }

  void load(int vm) {
    for (kvm_irqchip& chip : chips) require_ioctl("read an interrupt controller", vm, KVM_GET_IRQCHIP, &chip);
    require_ioctl("read the interval timer", vm, KVM_GET_PIT2, &pit);
  }
  void store(int vm) {
    for (kvm_irqchip& chip : chips) require_ioctl("set an interrupt controller", vm, KVM_SET_IRQCHIP, &chip);
    require_ioctl("set the interval timer", vm, KVM_SET_PIT2, &pit);
  }
  void fields(StateVisitor& visitor) {
    // The chip itself: which one it is follows from the place.
    for (kvm_irqchip& chip : chips)
      visitor.section("chip", chip.chip_id, [&] { visitor.bytes("state", writable_bytes_of(chip.chip)); });
    visitor.bytes("pit", writable_bytes_of(pit));
  }
};

}  // namespace

void visit_kvm_vm(KvmVm& vm, bool full_irqchip, StateVisitor& visitor) {
  const int fd = vm.fd();
  // Both shared with what the visitor has put off, which outlives this call.
  if (full_irqchip) {
    const auto state = std::make_shared<FullIrqchip>();
    if (!visitor.reading()) state->load(fd);
    state->fields(visitor);
    visitor.afterwards([state, fd] { state->store(fd); });
  }
  const auto clock = std::make_shared<std::uint64_t>(0);  // nanoseconds
  if (!visitor.reading()) {
    kvm_clock_data data{};
    require_ioctl("read the paravirtual clock", fd, KVM_GET_CLOCK, &data);
    *clock = data.clock;
  }
  visitor.number("clock", *clock);
  visitor.afterwards([clock, fd] {
    kvm_clock_data data{};
    data.clock = *clock;
    require_ioctl("set the paravirtual clock", fd, KVM_SET_CLOCK, &data);
  });
}

}  // namespace hum
