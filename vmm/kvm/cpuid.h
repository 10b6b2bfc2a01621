// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/kvm/abi.h"
#include "vmm/kvm/cpu_template.h"

namespace hum {

// How the guest's processors are arranged: one package, cores of one thread each. APIC ids are 0 to cpus - 1.
struct CpuTopology {
  std::uint32_t cpus = 1;

  // Bits of an APIC id that number the cores of the package.
  std::uint32_t core_bits() const;
};

// Changes those leaves that a template names, in its order. Throws ConfigError: there is no such leaf.
void apply_template(const CpuTemplate& wanted, std::vector<kvm_cpuid_entry2>& leaves);

// The CPUID leaves of one vCPU, made from those the host's KVM supports: topology and APIC ids in leaves 1,
// 4, 0xb, 0x1f, 0x80000008, 0x8000001d and 0x8000001e (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix
// E), the hypervisor bit, the TSC deadline timer where KVM has it.
std::vector<kvm_cpuid_entry2> vcpu_cpuid(std::vector<kvm_cpuid_entry2> supported, const CpuTopology& topology,
                                         std::uint32_t apic_id, bool tsc_deadline);

// How many bits the guest's physical addresses have (leaf 0x80000008, or 36 where there is none), at most 52.
unsigned physical_address_bits(const std::vector<kvm_cpuid_entry2>& supported);

}  // namespace hum
