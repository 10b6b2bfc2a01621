// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/base/log.h"
#include "vmm/base/state.h"
#include "vmm/kvm/vcpu.h"

namespace hum {

// Visits all that KVM keeps of one vCPU, in KVM's own structures (their layout is a stable interface):
// registers, floating point, local APIC with its timer, pending events, and every model-specific register
// that KVM_GET_MSR_INDEX_LIST names, and the MTRRs. The vCPU is paused, or has not run yet and has its CPUID
// leaves. What KVM refuses of the model-specific registers is skipped and logged. log outlives the visitor.
// Throws HostError, when reading back from StateReader::finish; the vCPU is then unusable.
void visit_vcpu(Vcpu& vcpu, const Kvm& kvm, const Log& log, StateVisitor& visitor);

}  // namespace hum
