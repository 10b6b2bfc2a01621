// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/boot_info.h"
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/hardware.h"

using namespace guest;

// CPUID tells that a hypervisor is there and that it is KVM, and offers what KVM's guests count on.
std::uint32_t guest_main(const BootInfo&) {
  check(1, (cpuid(1).ecx & 1u << 31) != 0, "a hypervisor is present");
  const CpuidResult leaf = cpuid(0x40000000);
  char name[13] = {};
  __builtin_memcpy(name, &leaf.ebx, 4);
  __builtin_memcpy(name + 4, &leaf.ecx, 4);
  __builtin_memcpy(name + 8, &leaf.edx, 4);
  print("hypervisor ", Text(name), ", highest leaf ", hex(leaf.eax), "\n");
  check(2, Text(name) == "KVMKVMKVM", "KVM's signature");
  constexpr std::uint32_t stable_clock = 1 << 24 | 1 << 3;
  check(3, (cpuid(0x40000001).eax & stable_clock) != 0, "KVM's clock");
  check(4, (cpuid(1).ecx & 1 << 21) != 0, "x2APIC");
  return 0;
}
