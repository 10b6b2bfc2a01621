// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/base/state.h"
#include "vmm/kvm/kvm_vm.h"

namespace hum {

// Visits what KVM keeps of a VM beside its vCPUs: the paravirtual clock and, with the interrupt controllers
// in the kernel, PIC, I/O APIC and PIT. Routes and kicks follow from the devices. No vCPU runs; when reading
// back, theirs is visited first, so that an interrupt on its way finds its local APIC. Throws HostError, when
// reading back from StateReader::finish; the VM is then unusable.
void visit_kvm_vm(KvmVm& vm, bool full_irqchip, StateVisitor& visitor);

}  // namespace hum
