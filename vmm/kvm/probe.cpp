// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/probe.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <limits>

#include "vmm/base/errors.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/memory/guest_memory.h"

namespace hum {
namespace {

constexpr std::uint32_t loops = 1000;
constexpr int most_runs = 4;

// mov ecx, loops; 1: dec ecx; jnz 1b; hlt
constexpr std::array<std::uint8_t, 10> program = {
    0xb9, loops & 0xff, loops >> 8, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xf4,
};
constexpr std::uint64_t halt_at = program.size() - 1;

double nanoseconds_from(Vcpu& vcpu, GuestAddress start) {
  AddressDecoder ports;
  AddressDecoder mmio;
  vcpu.set_start({.rip = start.value, .cr0 = 1});
  const auto begin = std::chrono::steady_clock::now();
  if (vcpu.run(ports, mmio) != VcpuEnd::halted)
    throw HostError(EIO, "run a probe program under KVM: " + vcpu.detail());
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

double supervisor_nanoseconds_per_instruction(const Kvm& kvm) {
  const GuestRange page{{0x1000}, 0x1000};
  const GuestMemory memory(std::span(&page, 1));
  memory.write_bytes(page.begin, std::as_bytes(std::span(program)));
  const Log log;
  KvmVm vm(kvm, log);
  for (const MemoryRegion& region : memory.regions()) vm.add(region.range, region.host, false);
  Vcpu vcpu(vm, 0, SIGRTMIN);
  // What an entry and an exit cost is no matter of the instructions. The first run pays for page faults, and
  // translation where the host itself is emulated.
  nanoseconds_from(vcpu, page.begin);
  double exit_alone = nanoseconds_from(vcpu, page.begin + halt_at);
  double best = std::numeric_limits<double>::max();
  for (int run = 0; run < most_runs && best > emulated_supervisor_nanoseconds; ++run) {
    exit_alone = std::min(exit_alone, nanoseconds_from(vcpu, page.begin + halt_at));
    const double taken = nanoseconds_from(vcpu, page.begin) - exit_alone;
    best = std::min(best, std::max(taken, 0.0) / (2.0 * loops));
  }
  return best;
}

}  // namespace hum
