// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/kvm/kvm.h"

namespace hum {

// Nanoseconds that one instruction at CPL 0 takes, measured by running a short loop in a throw-away VM, a few
// milliseconds where KVM emulates. Throws HostError.
double supervisor_nanoseconds_per_instruction(const Kvm& kvm);

// A KVM without hardware virtualization emulates supervisor code: 140 ns and more for each of the loop's
// simple instructions, where hardware takes less than 1 and the lab about 25. A distribution's kernel does
// not get anywhere on it.
inline constexpr double emulated_supervisor_nanoseconds = 60;

}  // namespace hum
