// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace hum {

// What a user wants of the guest's processors in place of what the host's KVM offers, each vCPU's alike.
struct CpuTemplate {
  // The bits of the mask become those of value.
  struct Bits {
    std::uint64_t mask = 0;
    std::uint64_t value = 0;

    std::uint64_t applied_to(std::uint64_t old) const { return (old & ~mask) | value; }
    bool operator==(const Bits&) const = default;
  };
  // One leaf that KVM supports; topology and APIC ids are set behind it.
  struct Cpuid {
    std::uint32_t function = 0;
    std::uint32_t index = 0;
    std::uint32_t flags = 0;             // KVM_CPUID_FLAG_*
    std::array<Bits, 4> registers = {};  // EAX, EBX, ECX, EDX

    bool operator==(const Cpuid&) const = default;
  };
  struct Msr {
    std::uint32_t index = 0;
    Bits bits;

    bool operator==(const Msr&) const = default;
  };

  std::vector<std::uint32_t> capabilities;  // KVM_CAP_*: those that KVM must have
  std::vector<Cpuid> cpuid;
  std::vector<Msr> msrs;
};

}  // namespace hum
