// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <vector>

#include "tools/hum-vmm/seccomp.h"

namespace hum {

// In the place of the number of the process, which nobody knows when the filters are made.
inline constexpr std::uint32_t seccomp_own_pid = 0x3fffffff;  // no process has it

// The filter of a kind of thread. Takes a third of a millisecond: it is made when hum-vmm is built. Throws
// HostError.
std::vector<sock_filter> seccomp_program(ThreadKind kind);
// The same as it was made then, for ever.
std::span<const sock_filter> made_seccomp_program(ThreadKind kind);

}  // namespace hum
