// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/kvm/kvm.h"

namespace hum {

// Nanoseconds that one instruction at CPL 0 takes, measured by running a short loop in a throw-away VM, a few
// milliseconds where KVM emulates. Throws HostError.
double supervisor_nanoseconds_per_instruction(const Kvm& kvm);

// A KVM without hardware virtualization emulates supervisor code, about a thousand times slower than the
// processor: a distribution's kernel does not get anywhere on it.
inline constexpr double emulated_supervisor_nanoseconds = 150;

}  // namespace hum
