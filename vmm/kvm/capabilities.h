// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// One capability of KVM that this VMM uses, and what it means for a user to be without it. The numbers are
// those of KVM_CHECK_EXTENSION (Linux, Documentation/virt/kvm/api.rst).
struct KvmCapability {
  enum class Need : std::uint8_t {
    required,  // no VM can be made without it
    speed,     // VMs run, but slower
    feature,   // VMs run, but something cannot be asked for
  };

  std::string_view name;  // "irqfd"
  int number;             // KVM_CAP_IRQFD
  int least;              // the smallest answer that will do
  Need need;
  std::string_view costs;  // in words of a user
};

std::span<const KvmCapability> used_capabilities();

// What was found out about this host's KVM, with every refusal as a value.
struct KvmReport {
  int open_error = 0;             // errno of open; the rest means something only where it is 0
  int api_version = -1;           // the stable API is 12
  std::vector<int> capabilities;  // the answers, in the order of used_capabilities()
  std::string problem;            // why the probe VM did not run; empty: it ran
  double supervisor_nanoseconds = 0;
};

// Opens /dev/kvm and runs the probe VM (see probe.h). Does not throw for what the host refuses.
KvmReport examine_kvm();

// The stable API of KVM, the only one there has been since Linux 2.6.22.
inline constexpr int stable_kvm_api = 12;

}  // namespace hum
