// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/bench/measure.h"

namespace guest {
namespace {

constexpr std::uint32_t system_time_msr = 0x4b564d01;  // Linux, Documentation/virt/kvm/x86/msr.rst
constexpr std::uint32_t has_system_time = 1 << 3;      // KVM's CPUID leaf 0x40000001

struct SystemTime {
  std::uint32_t version, padding;
  std::uint64_t tsc, nanoseconds;
  std::uint32_t multiplier;  // nanoseconds in 2^32 cycles, after the shift
  std::int8_t shift;
  std::uint8_t flags, more_padding[2];
};
alignas(64) constinit SystemTime system_time{};

}  // namespace

Duration duration_of(std::uint64_t cycles) {
  constexpr std::uint32_t kvm_signature = 0x4b4d564b;
  const bool has_kvm = cpuid(0x40000000).ebx == kvm_signature;
  if (!has_kvm || (cpuid(0x40000001).eax & has_system_time) == 0) return {cycles, "cycles"};
  write_msr(system_time_msr, address_of(&system_time) | 1);
  const auto multiplier = read<std::uint32_t>(address_of(&system_time.multiplier));
  const auto shift = read<std::int8_t>(address_of(&system_time.shift));
  const std::uint64_t shifted = shift < 0 ? cycles >> -shift : cycles << shift;
  write_msr(system_time_msr, 0);
  return {static_cast<std::uint64_t>(static_cast<unsigned __int128>(shifted) * multiplier >> 32), "ns"};
}

}  // namespace guest
