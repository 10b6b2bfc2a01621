// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/machine/end_record.h"

namespace hum {

// The exit codes of `hum`, documented in README.md. A guest's own code (debug-exit) passes through as it is.
inline constexpr int exit_ok = 0;              // poweroff, reboot, ended by Ctrl-A x
inline constexpr int exit_bad_request = 2;     // a wrong option or file, or a host that refuses it
inline constexpr int exit_panic = 120;         // the guest's kernel panicked
inline constexpr int exit_triple_fault = 121;  // the guest's processor shut down
inline constexpr int exit_kvm_error = 122;     // KVM could not go on
inline constexpr int exit_host_error = 123;    // a device or hum itself failed while the guest ran
inline constexpr int exit_timeout = 124;       // --timeout has passed
inline constexpr int exit_signal = 128;        // plus the signal's number

// The exit code for a VM's end; codes of signals and of the timeout are the caller's.
int exit_code_of(const EndRecord& record);

}  // namespace hum
