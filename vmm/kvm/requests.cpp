// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/requests.h"

#include "vmm/kvm/abi.h"

namespace hum {
namespace {

constexpr unsigned long owner[] = {
    KVM_GET_API_VERSION,    KVM_GET_VCPU_MMAP_SIZE, KVM_CREATE_VM,
    KVM_SET_TSS_ADDR,       KVM_ENABLE_CAP,         KVM_CREATE_IRQCHIP,
    KVM_CREATE_PIT2,        KVM_CREATE_VCPU,        KVM_GET_SUPPORTED_CPUID,
    KVM_GET_MSR_INDEX_LIST, KVM_GET_IRQCHIP,        KVM_SET_IRQCHIP,
    KVM_GET_PIT2,           KVM_SET_PIT2,           KVM_GET_CLOCK,
    KVM_SET_CLOCK,          KVM_SET_CPUID2,         KVM_GET_REGS,
    KVM_SET_REGS,           KVM_GET_SREGS,          KVM_SET_SREGS,
    KVM_GET_MSRS,           KVM_SET_MSRS,           KVM_GET_LAPIC,
    KVM_SET_LAPIC,          KVM_GET_MP_STATE,       KVM_SET_MP_STATE,
    KVM_GET_VCPU_EVENTS,    KVM_SET_VCPU_EVENTS,    KVM_GET_XSAVE,
    KVM_SET_XSAVE,          KVM_GET_XCRS,           KVM_SET_XCRS,
    KVM_GET_DEBUGREGS,      KVM_SET_DEBUGREGS,      KVM_GET_XSAVE2,
};

constexpr unsigned long run[] = {
    KVM_CHECK_EXTENSION,
    KVM_RUN,
    KVM_SET_SIGNAL_MASK,
    KVM_IRQ_LINE,
    KVM_IRQFD,
    KVM_IOEVENTFD,
    KVM_SET_GSI_ROUTING,
    KVM_REGISTER_COALESCED_MMIO,
    KVM_SET_USER_MEMORY_REGION,
};

}  // namespace

std::span<const unsigned long> kvm_owner_requests() {
  return owner;
}

std::span<const unsigned long> kvm_run_requests() {
  return run;
}

}  // namespace hum
