// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

namespace hum {

// The ioctl requests that this library makes of KVM, for a program that filters its system calls.

// By the thread that makes, pauses, saves and ends a VM: all of them but the second list.
std::span<const unsigned long> kvm_owner_requests();
// By a thread that runs a vCPU, and by threads that serve devices: interrupts, notifications, and memory that
// comes and goes.
std::span<const unsigned long> kvm_run_requests();

}  // namespace hum
