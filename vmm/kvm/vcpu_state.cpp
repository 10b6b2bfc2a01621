// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu_state.h"

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/errors.h"
#include "vmm/kvm/abi.h"
#include "vmm/kvm/kvm.h"

namespace hum {
namespace {

constexpr std::size_t most_msrs = 4096;

// An entry of KVM_GET_MSRS without its padding.
struct Msr {
  le64 value;
  le32 index;
  le32 reserved;
};
static_assert(sizeof(Msr) == 16);

// KVM knows these, and its list leaves them out (Intel SDM volume 3, 12.11).
std::vector<std::uint32_t> mtrrs() {
  constexpr std::uint32_t first_variable = 0x200;
  constexpr std::uint32_t variable = 16;
  std::vector<std::uint32_t> list = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
                                     0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x2ff};
  for (std::uint32_t index = 0; index < variable; ++index) list.push_back(first_variable + index);
  return list;
}

std::vector<std::uint32_t> saved_msrs(const Kvm& kvm) {
  kvm_msr_list size{};
  kvm_ioctl(kvm.fd(), KVM_GET_MSR_INDEX_LIST, &size);  // E2BIG, and the size
  std::vector<std::uint32_t> list(size.nmsrs);
  KvmTable<kvm_msr_list, std::uint32_t> table(size, list);
  require_ioctl("list the model-specific registers", kvm.fd(), KVM_GET_MSR_INDEX_LIST, table.get());
  const auto* const found = reinterpret_cast<const kvm_msr_list*>(table.get());
  list.assign(found->indices, found->indices + std::min<std::size_t>(found->nmsrs, list.size()));
  for (const std::uint32_t index : mtrrs())
    if (std::find(list.begin(), list.end(), index) == list.end()) list.push_back(index);
  return list;
}

// Gets or sets all of the entries that KVM lets us; it stops at each that it does not. Returns those it took.
std::vector<kvm_msr_entry> transfer(int fd, unsigned long request, std::vector<kvm_msr_entry> entries,
                                    std::string_view verb, const Log& log) {
  std::vector<kvm_msr_entry> taken;
  std::span<const kvm_msr_entry> rest = entries;
  while (!rest.empty()) {
    kvm_msrs header{};
    header.nmsrs = static_cast<std::uint32_t>(rest.size());
    KvmTable<kvm_msrs, kvm_msr_entry> table(header, rest);
    const int count =
        require_ioctl("transfer the model-specific registers of a vCPU", fd, request, table.get());
    const auto* const done = reinterpret_cast<const kvm_msrs*>(table.get())->entries;
    taken.insert(taken.end(), done, done + count);
    rest = rest.subspan(static_cast<std::size_t>(count));
    if (rest.empty()) break;
    log.info("KVM does not " + std::string(verb) + " the model-specific register " +
             std::to_string(rest.front().index));
    rest = rest.subspan(1);
  }
  return taken;
}

struct VcpuState {
  explicit VcpuState(const Kvm& kvm) {
    const auto needed = static_cast<std::size_t>(kvm.extension(KVM_CAP_XSAVE2));
    xsave.resize(std::max(needed, sizeof(kvm_xsave)));
  }

  void load(Vcpu& vcpu, const Kvm& kvm, const Log& log);
  void store(Vcpu& vcpu, const Log& log);
  void fields(StateVisitor& visitor);

  kvm_mp_state running{};
  kvm_regs registers{};
  kvm_sregs system{};
  std::vector<std::byte> xsave;
  kvm_xcrs extended_control{};
  kvm_debugregs debug{};
  kvm_lapic_state local_apic{};
  std::vector<Msr> msrs;
  kvm_vcpu_events events{};
};

// KVM_GET_MP_STATE comes first because it may still change the others, the events last because the others may
// change them.
void VcpuState::load(Vcpu& vcpu, const Kvm& kvm, const Log& log) {
  const auto get = [&](const char* what, unsigned long request, void* argument) {
    require_ioctl(what, vcpu.fd(), request, argument);
  };
  get("read whether a vCPU runs", KVM_GET_MP_STATE, &running);
  get("read the registers of a vCPU", KVM_GET_REGS, &registers);
  get("read the system registers of a vCPU", KVM_GET_SREGS, &system);
  get("read the floating point state of a vCPU",
      xsave.size() > sizeof(kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, xsave.data());
  get("read the extended control registers of a vCPU", KVM_GET_XCRS, &extended_control);
  get("read the debug registers of a vCPU", KVM_GET_DEBUGREGS, &debug);
  get("read the local APIC of a vCPU", KVM_GET_LAPIC, &local_apic);
  std::vector<kvm_msr_entry> entries;
  for (const std::uint32_t index : saved_msrs(kvm))
    entries.push_back({.index = index, .reserved = 0, .data = 0});
  for (const kvm_msr_entry& each : transfer(vcpu.fd(), KVM_GET_MSRS, entries, "show", log))
    msrs.push_back({each.data, each.index, 0});
  get("read the pending events of a vCPU", KVM_GET_VCPU_EVENTS, &events);
}

// The local APIC's address is among the system registers; the deadline of its timer is a model-specific
// register that counts only in the APIC's mode for it, and after the time stamp counter.
void VcpuState::store(Vcpu& vcpu, const Log& log) {
  const auto set = [&](const char* what, unsigned long request, void* argument) {
    require_ioctl(what, vcpu.fd(), request, argument);
  };
  set("set the system registers of a vCPU", KVM_SET_SREGS, &system);
  set("set the registers of a vCPU", KVM_SET_REGS, &registers);
  set("set the extended control registers of a vCPU", KVM_SET_XCRS, &extended_control);
  set("set the floating point state of a vCPU", KVM_SET_XSAVE, xsave.data());
  set("set the debug registers of a vCPU", KVM_SET_DEBUGREGS, &debug);
  set("set the local APIC of a vCPU", KVM_SET_LAPIC, &local_apic);
  std::vector<kvm_msr_entry> entries;
  for (const Msr& each : msrs) entries.push_back({.index = each.index, .reserved = 0, .data = each.value});
  transfer(vcpu.fd(), KVM_SET_MSRS, entries, "set", log);
  set("set the pending events of a vCPU", KVM_SET_VCPU_EVENTS, &events);
  set("set whether a vCPU runs", KVM_SET_MP_STATE, &running);
}

void VcpuState::fields(StateVisitor& visitor) {
  visitor.bytes("running", writable_bytes_of(running));
  visitor.bytes("registers", writable_bytes_of(registers));
  visitor.bytes("system-registers", writable_bytes_of(system));
  visitor.bytes("xsave", xsave);
  visitor.bytes("extended-control", writable_bytes_of(extended_control));
  visitor.bytes("debug-registers", writable_bytes_of(debug));
  visitor.bytes("local-apic", writable_bytes_of(local_apic));
  visitor.list("msrs", msrs, most_msrs);
  visitor.bytes("events", writable_bytes_of(events));
}

}  // namespace

void visit_vcpu(Vcpu& vcpu, const Kvm& kvm, const Log& log, StateVisitor& visitor) {
  // Shared with what the visitor has put off, which outlives this call.
  const auto state = std::make_shared<VcpuState>(kvm);
  if (!visitor.reading()) state->load(vcpu, kvm, log);
  state->fields(visitor);
  visitor.afterwards([state, &vcpu, &log] { state->store(vcpu, log); });
}

}  // namespace hum
