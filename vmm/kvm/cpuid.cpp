// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/cpuid.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string>

#include "vmm/base/errors.h"
#include "vmm/base/hex.h"

namespace hum {
namespace {

constexpr std::uint32_t replace_bits(std::uint32_t value, unsigned first, unsigned count,
                                     std::uint32_t bits) {
  const std::uint32_t mask = ((count == 32 ? 0u : (1u << count)) - 1) << first;
  return (value & ~mask) | ((bits << first) & mask);
}

bool is_amd(const std::vector<kvm_cpuid_entry2>& leaves) {
  const auto vendor =
      std::find_if(leaves.begin(), leaves.end(), [](const auto& leaf) { return leaf.function == 0; });
  // "Auth" and "Hygo": the first four letters of the two vendors that have AMD's topology leaves.
  return vendor != leaves.end() && (vendor->ebx == 0x68747541 || vendor->ebx == 0x6f677948);
}

// Ids per cache that the guest's cores share: level 3 is shared by the package, the rest by nobody.
std::uint32_t sharing(std::uint32_t level, const CpuTopology& topology) {
  return level >= 3 ? (1u << topology.core_bits()) - 1 : 0;
}

void set_topology_leaf(std::vector<kvm_cpuid_entry2>& leaves, std::uint32_t function,
                       const CpuTopology& topology, std::uint32_t apic_id) {
  std::erase_if(leaves, [&](const auto& leaf) { return leaf.function == function; });
  struct Level {
    std::uint32_t type;
    std::uint32_t shift;
    std::uint32_t count;
  };
  constexpr std::uint32_t thread = 1;
  constexpr std::uint32_t core = 2;
  const Level levels[] = {{thread, 0, 1}, {core, topology.core_bits(), topology.cpus}, {0, 0, 0}};
  for (std::uint32_t index = 0; index < std::size(levels); ++index) {
    kvm_cpuid_entry2 leaf{};
    leaf.function = function;
    leaf.index = index;
    leaf.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    leaf.eax = levels[index].shift;
    leaf.ebx = levels[index].count;
    leaf.ecx = index | (levels[index].type << 8);
    leaf.edx = apic_id;
    leaves.push_back(leaf);
  }
}

}  // namespace

std::uint32_t CpuTopology::core_bits() const {
  return static_cast<std::uint32_t>(std::bit_width(cpus - 1));
}

void apply_template(const CpuTemplate& wanted, std::vector<kvm_cpuid_entry2>& leaves) {
  for (const CpuTemplate::Cpuid& change : wanted.cpuid) {
    const auto leaf = std::find_if(leaves.begin(), leaves.end(), [&](const auto& each) {
      return each.function == change.function && each.index == change.index;
    });
    if (leaf == leaves.end())
      throw ConfigError("cpuid", hex(change.function) + "." + hex(change.index), "this KVM has no such leaf",
                        "leave it out, or run on another host");
    leaf->flags = change.flags;
    const std::array<std::uint32_t*, 4> registers = {&leaf->eax, &leaf->ebx, &leaf->ecx, &leaf->edx};
    for (std::size_t i = 0; i < registers.size(); ++i)
      *registers[i] = static_cast<std::uint32_t>(change.registers[i].applied_to(*registers[i]));
  }
}

std::vector<kvm_cpuid_entry2> vcpu_cpuid(std::vector<kvm_cpuid_entry2> leaves, const CpuTopology& topology,
                                         std::uint32_t apic_id, bool tsc_deadline) {
  const bool amd = is_amd(leaves);
  bool extended_topology = false;
  bool v2_topology = false;
  for (kvm_cpuid_entry2& leaf : leaves) {
    switch (leaf.function) {
      case 0x1:
        leaf.ebx = replace_bits(leaf.ebx, 24, 8, apic_id);
        leaf.ebx = replace_bits(leaf.ebx, 16, 8, 1u << topology.core_bits());
        leaf.ecx = replace_bits(leaf.ecx, 24, 1, tsc_deadline ? 1 : 0);
        leaf.ecx |= 1u << 31;                                                 // a hypervisor is present
        leaf.edx = replace_bits(leaf.edx, 28, 1, topology.cpus > 1 ? 1 : 0);  // HTT: ebx[23:16] is valid
        break;
      case 0x4:
        if ((leaf.eax & 0x1f) == 0) break;
        leaf.eax = replace_bits(leaf.eax, 14, 12, sharing((leaf.eax >> 5) & 7, topology));
        leaf.eax = replace_bits(leaf.eax, 26, 6, (1u << topology.core_bits()) - 1);
        break;
      case 0x6:
        leaf.eax |= 1u << 2;  // ARAT: the APIC timer never stops
        break;
      case 0xb:
        extended_topology = true;
        break;
      case 0x1f:
        v2_topology = true;
        break;
      case 0x80000001:
        if (amd) leaf.ecx = replace_bits(leaf.ecx, 1, 1, topology.cpus > 1 ? 1 : 0);  // CmpLegacy
        break;
      case 0x80000008:
        if (amd) leaf.ecx = (topology.core_bits() << 12) | (topology.cpus - 1);
        break;
      case 0x8000001d:
        if ((leaf.eax & 0x1f) != 0)
          leaf.eax = replace_bits(leaf.eax, 14, 12, sharing((leaf.eax >> 5) & 7, topology));
        break;
      case 0x8000001e:
        leaf.eax = apic_id;
        leaf.ebx = apic_id & 0xff;  // the core's id; one thread per core
        leaf.ecx = 0;               // one node
        break;
      default:
        break;
    }
  }
  const auto highest =
      std::find_if(leaves.begin(), leaves.end(), [](const auto& leaf) { return leaf.function == 0; });
  if (extended_topology || (highest != leaves.end() && highest->eax >= 0xb))
    set_topology_leaf(leaves, 0xb, topology, apic_id);
  if (v2_topology) set_topology_leaf(leaves, 0x1f, topology, apic_id);
  return leaves;
}

unsigned physical_address_bits(const std::vector<kvm_cpuid_entry2>& supported) {
  const auto leaf = std::find_if(supported.begin(), supported.end(),
                                 [](const auto& each) { return each.function == 0x80000008; });
  constexpr unsigned most = 52;  // that page tables have room for; a template may say more
  return leaf == supported.end() ? 36 : std::min(leaf->eax & 0xff, most);
}

}  // namespace hum
