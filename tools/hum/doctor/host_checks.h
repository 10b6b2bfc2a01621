// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "tools/hum/doctor/check.h"
#include "tools/hum/doctor/host.h"

namespace hum::doctor {

// What a host can do for VMs, in groups. Nothing on the host is changed, but that the first makes a VM for
// some milliseconds.
std::vector<Check> kvm_checks(const Host& host);
std::vector<Check> processor_checks(const Host& host);
std::vector<Check> device_checks(const Host& host);
std::vector<Check> memory_checks(const Host& host);
std::vector<Check> isolation_checks(const Host& host);
std::vector<Check> limit_checks(const Host& host);
std::vector<Check> program_checks(const Host& host);

// All of them, in this order.
std::vector<Check> host_checks(const Host& host);

}  // namespace hum::doctor
