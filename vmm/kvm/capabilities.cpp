// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/capabilities.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "vmm/kvm/kvm.h"
#include "vmm/kvm/probe.h"

namespace hum {
namespace {

using Need = KvmCapability::Need;

constexpr std::array<KvmCapability, 20> capabilities = {{
    {"user memory", KVM_CAP_USER_MEMORY, 1, Need::required, "a guest cannot be given memory"},
    {"memory slots", KVM_CAP_NR_MEMSLOTS, 32, Need::required,
     "a guest's memory is too many pieces for this KVM"},
    {"irqchip", KVM_CAP_IRQCHIP, 1, Need::required, "a guest has no interrupt controller"},
    {"split irqchip", KVM_CAP_SPLIT_IRQCHIP, 1, Need::required,
     "only '--irqchip kernel' works, which takes 15 ms longer to start"},
    {"irq routing", KVM_CAP_IRQ_ROUTING, 64, Need::required, "devices cannot be given interrupts"},
    {"irqfd", KVM_CAP_IRQFD, 1, Need::required, "devices cannot raise interrupts"},
    {"ioeventfd", KVM_CAP_IOEVENTFD, 1, Need::speed,
     "every request of a disk or another device stops its vCPU"},
    {"signal MSI", KVM_CAP_SIGNAL_MSI, 1, Need::feature,
     "an interrupt cannot be sent without a route for it"},
    {"MP state", KVM_CAP_MP_STATE, 1, Need::required, "a guest cannot have more than one vCPU"},
    {"extended CPUID", KVM_CAP_EXT_CPUID, 1, Need::required,
     "a guest cannot be told what its processors are"},
    {"vCPUs", KVM_CAP_MAX_VCPUS, 64, Need::feature, "'--cpus' takes no more than that"},
    {"set TSS", KVM_CAP_SET_TSS_ADDR, 1, Need::feature,
     "old Intel processors cannot run a guest's first instructions"},
    {"read-only memory", KVM_CAP_READONLY_MEM, 1, Need::feature, "a guest's ROM can be written by the guest"},
    {"immediate exit", KVM_CAP_IMMEDIATE_EXIT, 1, Need::feature, "a vCPU cannot be paused for a snapshot"},
    {"TSC deadline timer", KVM_CAP_TSC_DEADLINE_TIMER, 1, Need::speed,
     "a guest's timers are the slower ones of its local APIC"},
    {"coalesced MMIO", KVM_CAP_COALESCED_MMIO, 1, Need::speed, "writes that need no answer stop their vCPU"},
    {"coalesced PIO", KVM_CAP_COALESCED_PIO, 1, Need::speed,
     "a guest that searches its PCI buses by ports starts some milliseconds later"},
    {"dirty log by request", KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 1, Need::speed,
     "saving a running guest's memory stops it longer"},
    {"dirty ring", KVM_CAP_DIRTY_LOG_RING, 1, Need::speed,
     "saving a running guest's memory takes time for all of it, not for what has changed"},
    {"XSAVE2", KVM_CAP_XSAVE2, 1, Need::feature,
     "a guest that uses AMX registers cannot be saved and restored"},
}};

}  // namespace

std::span<const KvmCapability> used_capabilities() {
  return capabilities;
}

KvmReport examine_kvm() {
  KvmReport report;
  const Fd device(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!device) {
    report.open_error = errno;
    return report;
  }
  report.api_version = kvm_ioctl(device.get(), KVM_GET_API_VERSION);
  try {
    const Kvm kvm(device.get());
    for (const KvmCapability& each : capabilities) report.capabilities.push_back(kvm.extension(each.number));
    report.supervisor_nanoseconds = supervisor_nanoseconds_per_instruction(kvm);
  } catch (const std::system_error& error) {
    report.problem = error.what();
    report.capabilities.resize(capabilities.size());
  }
  return report;
}

}  // namespace hum
