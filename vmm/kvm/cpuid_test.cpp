// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/cpuid.h"

#include <algorithm>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

kvm_cpuid_entry2 leaf(std::uint32_t function, std::uint32_t index = 0) {
  kvm_cpuid_entry2 entry{};
  entry.function = function;
  entry.index = index;
  return entry;
}

const kvm_cpuid_entry2& find(const std::vector<kvm_cpuid_entry2>& leaves, std::uint32_t function,
                             std::uint32_t index = 0) {
  const auto found = std::find_if(leaves.begin(), leaves.end(), [&](const auto& each) {
    return each.function == function && each.index == index;
  });
  REQUIRE(found != leaves.end());
  return *found;
}

std::vector<kvm_cpuid_entry2> intel() {
  std::vector<kvm_cpuid_entry2> leaves = {leaf(0),    leaf(1), leaf(4, 0),   leaf(4, 3),
                                          leaf(4, 4), leaf(6), leaf(0xb, 0), leaf(0x1f, 0)};
  leaves[0].eax = 0x1f;
  leaves[0].ebx = 0x756e6547;
  leaves[1].ebx = 0xffff0000;
  leaves[2].eax = 1 | (1 << 5) | (0x3fu << 26) | (7u << 14);
  leaves[3].eax = 3 | (3 << 5) | (0x3fu << 26) | (7u << 14);
  return leaves;
}

std::vector<kvm_cpuid_entry2> amd() {
  std::vector<kvm_cpuid_entry2> leaves = {
      leaf(0), leaf(1), leaf(0x80000001), leaf(0x80000008), leaf(0x8000001d, 3), leaf(0x8000001e)};
  leaves[0].eax = 0x10;
  leaves[0].ebx = 0x68747541;
  leaves[3].ecx = 0x703f;
  leaves[4].eax = 3 | (3 << 5) | (0xffu << 14);
  leaves[5].ebx = 0x1234;
  return leaves;
}

}  // namespace

TEST_CASE("the core bits of an APIC id hold every processor") {
  CHECK(CpuTopology{1}.core_bits() == 0);
  CHECK(CpuTopology{2}.core_bits() == 1);
  CHECK(CpuTopology{3}.core_bits() == 2);
  CHECK(CpuTopology{4}.core_bits() == 2);
  CHECK(CpuTopology{5}.core_bits() == 3);
  CHECK(CpuTopology{64}.core_bits() == 6);
}

TEST_CASE("leaf 1 carries the APIC id, the number of ids, and a hypervisor") {
  const auto leaves = vcpu_cpuid(intel(), {6}, 5, true);
  const auto& one = find(leaves, 1);
  CHECK(one.ebx >> 24 == 5);
  CHECK(((one.ebx >> 16) & 0xff) == 8);
  CHECK((one.ecx & (1u << 31)) != 0);
  CHECK((one.ecx & (1u << 24)) != 0);
  CHECK((one.edx & (1u << 28)) != 0);
}

TEST_CASE("a single processor has no HTT bit, and no deadline timer where KVM has none") {
  const auto leaves = vcpu_cpuid(intel(), {1}, 0, false);
  CHECK((find(leaves, 1).edx & (1u << 28)) == 0);
  CHECK((find(leaves, 1).ecx & (1u << 24)) == 0);
  CHECK(((find(leaves, 1).ebx >> 16) & 0xff) == 1);
}

TEST_CASE("first-level caches belong to a core, the third level to the package") {
  const auto leaves = vcpu_cpuid(intel(), {4}, 0, true);
  CHECK(((find(leaves, 4, 0).eax >> 14) & 0xfff) == 0);
  CHECK(((find(leaves, 4, 3).eax >> 14) & 0xfff) == 3);
  CHECK(find(leaves, 4, 0).eax >> 26 == 3);
  CHECK(find(leaves, 4, 4).eax == 0);  // the end of the list stays one
}

TEST_CASE("the topology leaves number one thread per core and all cores of the package") {
  for (const std::uint32_t function : {0xbu, 0x1fu}) {
    const auto leaves = vcpu_cpuid(intel(), {3}, 2, true);
    CHECK(find(leaves, function, 0).eax == 0);
    CHECK(find(leaves, function, 0).ebx == 1);
    CHECK(find(leaves, function, 0).ecx == 0x100);
    CHECK(find(leaves, function, 1).eax == 2);
    CHECK(find(leaves, function, 1).ebx == 3);
    CHECK(find(leaves, function, 1).ecx == 0x201);
    CHECK(find(leaves, function, 2).ebx == 0);
    CHECK(find(leaves, function, 2).edx == 2);
  }
}

TEST_CASE("AMD's leaves count the cores too") {
  const auto leaves = vcpu_cpuid(amd(), {4}, 3, true);
  CHECK(find(leaves, 0x80000008).ecx == ((2u << 12) | 3));
  CHECK((find(leaves, 0x80000001).ecx & 2) != 0);
  CHECK(((find(leaves, 0x8000001d, 3).eax >> 14) & 0xfff) == 3);
  CHECK(find(leaves, 0x8000001e).eax == 3);
  CHECK(find(leaves, 0x8000001e).ebx == 3);
  CHECK(find(leaves, 0xb, 1).ebx == 4);  // the vendor leaf says that it exists
}

TEST_CASE("a template changes the bits of its leaves that it names, and no others") {
  std::vector<kvm_cpuid_entry2> leaves = intel();
  leaves[3].ecx = 0xff00ff00;
  const std::vector<kvm_cpuid_entry2> before = leaves;
  CpuTemplate wanted;
  CpuTemplate::Cpuid cache{.function = 4, .index = 3, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
  cache.registers[2] = {.mask = 0xf00f, .value = 0x100f};
  CpuTemplate::Cpuid features{.function = 1};
  features.registers[3] = {.mask = 0xffffffff, .value = 5};
  wanted.cpuid = {cache, features};
  apply_template(wanted, leaves);
  CHECK(find(leaves, 4, 3).ecx == 0xff001f0f);
  CHECK(find(leaves, 4, 3).eax == find(before, 4, 3).eax);
  CHECK(find(leaves, 4, 3).flags == KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
  CHECK(find(leaves, 4, 0).ecx == find(before, 4, 0).ecx);
  CHECK(find(leaves, 1).edx == 5);
  CHECK(find(leaves, 1).ebx == find(before, 1).ebx);
}

TEST_CASE("a leaf that KVM does not have cannot be changed, topology stays the machine's") {
  std::vector<kvm_cpuid_entry2> leaves = intel();
  CpuTemplate wanted;
  wanted.cpuid = {{.function = 4, .index = 1}};
  CHECK_THROWS_AS(apply_template(wanted, leaves), ConfigError);
  CpuTemplate::Cpuid ids{.function = 1};
  ids.registers[1] = {.mask = 0xffffffff, .value = 0};
  wanted.cpuid = {ids};
  apply_template(wanted, leaves);
  CHECK(find(vcpu_cpuid(leaves, {4}, 3, true), 1).ebx >> 24 == 3);
}

TEST_CASE("physical addresses have as many bits as KVM says, or those of an old processor") {
  std::vector<kvm_cpuid_entry2> leaves = {leaf(0), leaf(0x80000008)};
  leaves[1].eax = 0x3028;
  CHECK(physical_address_bits(leaves) == 40);
  leaves[1].eax = 52;
  CHECK(physical_address_bits(leaves) == 52);
  for (const std::uint32_t too_many : {53u, 64u, 0xffu}) {
    leaves[1].eax = too_many;
    CHECK(physical_address_bits(leaves) == 52);
  }
  leaves.pop_back();
  CHECK(physical_address_bits(leaves) == 36);
}

}  // namespace hum
