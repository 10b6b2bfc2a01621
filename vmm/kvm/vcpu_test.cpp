// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <optional>
#include <thread>

#include "vmm/base/endian.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/testing.h"
#include "vmm/kvm/vcpu_state.h"
#include "vmm/kvm/vm_state.h"
#include "vmm/memory/guest_memory.h"

namespace hum {
namespace {

// Remembers what was written and answers reads with a constant.
class Recorder final : public RegisterWindow {
 public:
  void read(std::uint64_t, std::span<std::byte> data) override {
    for (std::byte& byte : data) byte = std::byte{0x5a};
  }
  void write(std::uint64_t offset, std::span<const std::byte> data) override {
    writes.emplace_back(offset, data.begin(), data.end());
  }

  struct Write {
    std::uint64_t offset;
    std::vector<std::byte> data;
    template <class Iterator>
    Write(std::uint64_t at, Iterator begin, Iterator end) : offset(at), data(begin, end) {}
  };
  std::vector<Write> writes;
};

// A vCPU with one page of program at 0x1000.
struct Machine {
  explicit Machine(std::span<const std::uint8_t> program, bool irqchip = false)
      : memory(std::array{GuestRange{{0x1000}, 0x1000}}), vm(kvm, log) {
    memory.write_bytes({0x1000}, std::as_bytes(program));
    vm.add(memory.regions()[0].range, memory.regions()[0].host, false);
    if (irqchip) vm.create_split_irqchip();
    vcpu.emplace(vm, 0, SIGRTMIN + 3);
    vcpu->set_cpuid(kvm.supported_cpuid());
    vcpu->set_start({.rip = 0x1000, .cr0 = 1});
  }

  Log log;
  Kvm kvm;
  GuestMemory memory;
  KvmVm vm;
  AddressDecoder ports;
  AddressDecoder mmio;
  std::optional<Vcpu> vcpu;
};

bool no_kvm() {
  if (::access("/dev/kvm", R_OK | W_OK) == 0) return false;
  WARN("skipped: /dev/kvm cannot be opened");
  return true;
}

}  // namespace

TEST_CASE("the vCPU passes port and memory accesses on, and ends at a halt") {
  if (no_kvm()) return;
  // mov al, 0x42; out 0x10, al; in al, 0x11; mov [0xd0000000], eax (al = 0x5a); hlt
  const std::array<std::uint8_t, 16> program = {0xb0, 0x42, 0xe6, 0x10, 0xe4, 0x11, 0xa2, 0x00,
                                                0x00, 0x00, 0xd0, 0xf4, 0,    0,    0,    0};
  Machine machine(program);
  Recorder port;
  Recorder memory;
  const auto port_mapping = machine.ports.map("port", 0x10, 2, port);
  const auto memory_mapping = machine.mmio.map("memory", 0xd0000000, 16, memory);
  CHECK(machine.vcpu->run(machine.ports, machine.mmio) == VcpuEnd::halted);
  REQUIRE(port.writes.size() == 1);
  CHECK(port.writes[0].data == std::vector{std::byte{0x42}});
  REQUIRE(memory.writes.size() == 1);
  CHECK(memory.writes[0].data == std::vector{std::byte{0x5a}});
  CHECK(machine.vcpu->exits(Vcpu::Exit::port_out) == 1);
  CHECK(machine.vcpu->exits(Vcpu::Exit::port_in) == 1);
  CHECK(machine.vcpu->exits(Vcpu::Exit::mmio_write) == 1);
}

TEST_CASE("collected writes come in order, before the access that exits, and without exits of their own") {
  if (no_kvm()) return;
  // mov al, 1; out 0x10, al; mov al, 2; out 0x11, al; mov al, 3; out 0x12, al; hlt
  const std::array<std::uint8_t, 13> program = {0xb0, 1,    0xe6, 0x10, 0xb0, 2,   0xe6,
                                                0x11, 0xb0, 3,    0xe6, 0x12, 0xf4};
  Machine machine(program);
  if (machine.kvm.extension(KVM_CAP_COALESCED_PIO) == 0) {
    WARN("skipped: this KVM collects no writes to ports");
    return;
  }
  machine.vm.collect_writes(0x10, 2);
  Recorder port;
  const auto mapping = machine.ports.map("port", 0x10, 4, port);
  CHECK(machine.vcpu->run(machine.ports, machine.mmio) == VcpuEnd::halted);
  REQUIRE(port.writes.size() == 3);
  for (std::uint8_t i = 0; i < 3; ++i) {
    CHECK(port.writes[i].offset == i);
    CHECK(port.writes[i].data == std::vector{std::byte{static_cast<unsigned char>(i + 1)}});
  }
  CHECK(machine.vcpu->exits(Vcpu::Exit::port_out) == 1);
  CHECK(machine.vcpu->collected_writes() == 2);
}

TEST_CASE("more collected writes than the ring holds are neither lost nor out of order") {
  if (no_kvm()) return;
  // mov ecx, 1000; 1: mov eax, ecx; out 0x10, eax; dec ecx; jnz 1b; hlt
  const std::array<std::uint8_t, 14> program = {0xb9, 0xe8, 3,    0,    0,    0x89, 0xc8,
                                                0xe7, 0x10, 0xff, 0xc9, 0x75, 0xf8, 0xf4};
  Machine machine(program);
  machine.vm.collect_writes(0x10, 4);
  Recorder port;
  const auto mapping = machine.ports.map("port", 0x10, 4, port);
  CHECK(machine.vcpu->run(machine.ports, machine.mmio) == VcpuEnd::halted);
  REQUIRE(port.writes.size() == 1000);
  std::uint64_t left = 1000;
  for (const Recorder::Write& write : port.writes) CHECK(load_le(write.data) == left--);
}

TEST_CASE("ports and memory with nothing there read as all ones") {
  if (no_kvm()) return;
  // in al, 0x11; out 0x10, al; mov al, [0xd0000000]; out 0x10, al; hlt
  const std::array<std::uint8_t, 12> program = {0xe4, 0x11, 0xe6, 0x10, 0xa0, 0x00,
                                                0x00, 0x00, 0xd0, 0xe6, 0x10, 0xf4};
  Machine machine(program);
  Recorder port;
  const auto mapping = machine.ports.map("port", 0x10, 1, port);
  CHECK(machine.vcpu->run(machine.ports, machine.mmio) == VcpuEnd::halted);
  REQUIRE(port.writes.size() == 2);
  CHECK(port.writes[0].data == std::vector{std::byte{0xff}});
  CHECK(port.writes[1].data == std::vector{std::byte{0xff}});
}

TEST_CASE("a triple fault ends the vCPU") {
  if (no_kvm()) return;
  const std::array<std::uint8_t, 2> program = {0x0f, 0x0b};  // ud2 with an empty IDT
  Machine machine(program);
  CHECK(machine.vcpu->run(machine.ports, machine.mmio) == VcpuEnd::triple_fault);
}

TEST_CASE("an instruction that KVM cannot emulate ends the vCPU with the reason and the place") {
  if (no_kvm()) return;
  // mov eax, 0xd0000000; jmp eax: execution outside of memory
  const std::array<std::uint8_t, 7> program = {0xb8, 0, 0, 0, 0xd0, 0xff, 0xe0};
  Machine machine(program);
  CHECK(machine.vcpu->run(machine.ports, machine.mmio) == VcpuEnd::internal_error);
  CHECK(machine.vcpu->detail().find("KVM_EXIT_INTERNAL_ERROR") != std::string::npos);
  CHECK(machine.vcpu->registers()->instruction_pointer == 0xd0000000);
}

TEST_CASE("stop ends a vCPU that loops, sleeps, or has not started yet") {
  if (no_kvm()) return;
  const std::array<std::uint8_t, 2> endless = {0xeb, 0xfe};  // jmp $
  const std::array<std::uint8_t, 2> asleep = {0xfa, 0xf4};   // cli; hlt: waits in KVM
  for (const auto& program : {endless, asleep}) {
    Machine machine(program, true);
    std::optional<VcpuEnd> end;
    std::thread thread = start_thread("vcpu", [&] { end = machine.vcpu->run(machine.ports, machine.mmio); });
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    machine.vcpu->stop();
    thread.join();
    CHECK(end == VcpuEnd::stopped);
  }
  Machine machine(endless, true);
  machine.vcpu->stop();
  std::optional<VcpuEnd> end;
  start_thread("vcpu", [&] { end = machine.vcpu->run(machine.ports, machine.mmio); }).join();
  CHECK(end == VcpuEnd::stopped);
}

TEST_CASE("a slot, an interrupt and a kick can be given back") {
  if (no_kvm()) return;
  const std::array<std::uint8_t, 1> program = {0xf4};
  Machine machine(program, true);
  const GuestMemory more(std::array{GuestRange{{0x10000}, 0x1000}});
  const std::uint32_t slot = machine.vm.add(more.regions()[0].range, more.regions()[0].host, false);
  machine.vm.remove(slot);
  CHECK(machine.vm.add(more.regions()[0].range, more.regions()[0].host, false) == slot);
  {
    const auto interrupt = machine.vm.create_interrupt();
    interrupt->trigger();
    CHECK(interrupt->pending());  // masked: nobody takes it
    interrupt->configure({0xfee00000, 0x30}, false);
    for (int i = 0; i < 1000 && interrupt->pending(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK_FALSE(interrupt->pending());
  }
  const EventFd event;
  const KickAddress where{.address = 0xd0000050, .length = 4, .match = 0};
  CHECK(machine.vm.bind(where, event.fd()));
  CHECK_FALSE(machine.vm.bind(where, event.fd()));
  machine.vm.unbind(where, event.fd());
  CHECK(machine.vm.bind(where, event.fd()));
  machine.vm.unbind(where, event.fd());
}

namespace {

// Runs for a millisecond on a thread of its own and pauses.
void run_a_while(Machine& machine) {
  std::optional<VcpuEnd> end;
  std::thread thread = start_thread("vcpu", [&] { end = machine.vcpu->run(machine.ports, machine.mmio); });
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  machine.vcpu->pause();
  thread.join();
  REQUIRE(end == VcpuEnd::stopped);
  machine.vcpu->resume();
}

kvm_regs registers_of(const Machine& machine) {
  kvm_regs registers{};
  require_ioctl("read registers", machine.vcpu->fd(), KVM_GET_REGS, &registers);
  return registers;
}

}  // namespace

TEST_CASE("a paused vCPU has what its last exit brought, and goes on behind it") {
  if (no_kvm()) return;
  // 1: in al, 0x10; inc ebx; jmp 1b
  const std::array<std::uint8_t, 6> program = {0xe4, 0x10, 0xff, 0xc3, 0xeb, 0xfa};
  Machine machine(program, true);
  Recorder port;
  const auto mapping = machine.ports.map("port", 0x10, 1, port);
  std::uint64_t before = 0;
  for (int round = 0; round < 20 || (before == 0 && round < 1000); ++round) {
    run_a_while(machine);
    const kvm_regs registers = registers_of(machine);
    if (registers.rip == 0x1002) CHECK((registers.rax & 0xff) == 0x5a);
    CHECK(registers.rbx >= before);
    before = registers.rbx;
  }
  CHECK(before > 0);
}

TEST_CASE("a pause does not undo a stop, and an end during a pause stays") {
  if (no_kvm()) return;
  const std::array<std::uint8_t, 2> endless = {0xeb, 0xfe};  // jmp $
  Machine machine(endless, true);
  machine.vcpu->pause();
  machine.vcpu->stop();
  machine.vcpu->resume();
  std::optional<VcpuEnd> end;
  start_thread("vcpu", [&] { end = machine.vcpu->run(machine.ports, machine.mmio); }).join();
  CHECK(end == VcpuEnd::stopped);
}

TEST_CASE("a vCPU's state goes on in another VM") {
  if (no_kvm()) return;
  // 1: inc ebx; out 0x10, al; jmp 1b
  const std::array<std::uint8_t, 6> program = {0xff, 0xc3, 0xe6, 0x10, 0xeb, 0xfa};
  Machine source(program, true);
  Machine next(program, true);
  for (int round = 0; registers_of(source).rbx == 0 && round < 1000; ++round) run_a_while(source);
  StateWriter writer;
  visit_vcpu(*source.vcpu, source.kvm, source.log, writer);
  visit_kvm_vm(source.vm, false, writer);
  const auto state = std::move(writer).finish();
  StateReader reader(state);
  visit_vcpu(*next.vcpu, next.kvm, next.log, reader);
  visit_kvm_vm(next.vm, false, reader);
  CHECK(registers_of(next).rbx == 0);
  reader.finish();
  const kvm_regs there = registers_of(source);
  const kvm_regs here = registers_of(next);
  CHECK(here.rbx == there.rbx);
  CHECK(here.rip == there.rip);
  CHECK(here.rbx > 0);
  Recorder port;
  const auto mapping = next.ports.map("port", 0x10, 1, port);
  for (int round = 0; port.writes.empty() && round < 1000; ++round) run_a_while(next);
  CHECK_FALSE(port.writes.empty());
}

}  // namespace hum
