// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <mutex>

#include "vmm/base/errors.h"
#include "vmm/base/hex.h"

namespace hum {
namespace {

constexpr std::size_t page_size = 4096;
constexpr std::uint32_t ring_entries =
    (page_size - sizeof(kvm_coalesced_mmio_ring)) / sizeof(kvm_coalesced_mmio);  // KVM_COALESCED_MMIO_MAX

kvm_segment flat_segment(std::uint16_t selector, std::uint8_t type, bool long_mode) {
  kvm_segment segment{};
  segment.selector = selector;
  segment.limit = 0xffffffff;
  segment.type = type;
  segment.present = 1;
  segment.s = 1;
  segment.g = 1;
  segment.l = long_mode ? 1 : 0;
  segment.db = long_mode ? 0 : 1;
  return segment;
}

CpuRegisters::Segment named(std::string_view name, const kvm_segment& segment) {
  const unsigned attributes = unsigned{segment.type} | unsigned{segment.s} << 4 | unsigned{segment.dpl} << 5 |
                              unsigned{segment.present} << 7 | unsigned{segment.avl} << 12 |
                              unsigned{segment.l} << 13 | unsigned{segment.db} << 14 |
                              unsigned{segment.g} << 15;
  return {name, segment.selector, segment.base, segment.limit, static_cast<std::uint16_t>(attributes)};
}

std::string describe_internal_error(const kvm_run& run) {
  static constexpr std::array<std::string_view, 5> names = {
      "", "instruction emulation failed", "exceptions nested without end", "an event could not be delivered",
      "an unexpected exit reason"};
  const std::uint32_t suberror = run.internal.suberror;
  std::string text =
      suberror < names.size() && suberror != 0 ? std::string(names[suberror]) : "unknown error";
  return text + " (KVM_EXIT_INTERNAL_ERROR, suberror " + std::to_string(suberror) + ")";
}

}  // namespace

Vcpu::Vcpu(KvmVm& vm, std::uint32_t id, int kick_signal)
    : vm_(vm),
      id_(id),
      kick_signal_(kick_signal),
      fd_(require_ioctl("create a vCPU", vm.fd(), KVM_CREATE_VCPU, std::uint64_t{id})),
      mapping_size_(vm.kvm().vcpu_mapping_size()) {
  void* mapped = ::mmap(nullptr, mapping_size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (mapped == MAP_FAILED) throw HostError(errno, "map a vCPU's shared structure");
  ::madvise(mapped, mapping_size_, MADV_DONTFORK);  // no child keeps the VM alive
  run_ = static_cast<kvm_run*>(mapped);
  const auto ring_at = static_cast<std::size_t>(vm.kvm().extension(KVM_CAP_COALESCED_MMIO)) * page_size;
  if (ring_at != 0 && ring_at + page_size <= mapping_size_)
    ring_ = reinterpret_cast<kvm_coalesced_mmio_ring*>(static_cast<std::byte*>(mapped) + ring_at);
}

Vcpu::~Vcpu() {
  ::munmap(run_, mapping_size_);
}

void Vcpu::set_cpuid(const std::vector<kvm_cpuid_entry2>& leaves) {
  kvm_cpuid2 header{};
  header.nent = static_cast<std::uint32_t>(leaves.size());
  KvmTable<kvm_cpuid2, kvm_cpuid_entry2> table(header, leaves);
  require_ioctl("set the CPUID leaves of a vCPU", fd_.get(), KVM_SET_CPUID2, table.get());
}

bool Vcpu::set_msr(std::uint32_t index, std::uint64_t value) {
  kvm_msrs header{};
  header.nmsrs = 1;
  kvm_msr_entry entry{};
  entry.index = index;
  entry.data = value;
  KvmTable<kvm_msrs, kvm_msr_entry> table(header, std::span(&entry, 1));
  return kvm_ioctl(fd_.get(), KVM_SET_MSRS, table.get()) == 1;
}

std::optional<std::uint64_t> Vcpu::msr(std::uint32_t index) const {
  kvm_msrs header{};
  header.nmsrs = 1;
  kvm_msr_entry entry{};
  entry.index = index;
  KvmTable<kvm_msrs, kvm_msr_entry> table(header, std::span(&entry, 1));
  if (kvm_ioctl(fd_.get(), KVM_GET_MSRS, table.get()) != 1) return {};
  std::memcpy(&entry, static_cast<const std::byte*>(table.get()) + sizeof header, sizeof entry);
  return entry.data;
}

void Vcpu::set_start(const CpuEntry& entry) {
  kvm_sregs sregs{};
  require_ioctl("read the registers of a vCPU", fd_.get(), KVM_GET_SREGS, &sregs);
  const bool long_mode = entry.mode == CpuEntry::Mode::long64;
  constexpr std::uint8_t code_read_accessed = 0xb;
  constexpr std::uint8_t data_write_accessed = 0x3;
  sregs.cs = flat_segment(CpuEntry::code_selector, code_read_accessed, long_mode);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss =
      flat_segment(CpuEntry::data_selector, data_write_accessed, false);
  sregs.tr.selector = CpuEntry::task_selector;
  sregs.tr.base = 0;
  sregs.tr.limit = 0x67;
  sregs.tr.type = 0xb;  // busy, 32 or 64 bit
  sregs.ldt.unusable = 1;
  sregs.gdt.base = entry.gdt.value;
  sregs.gdt.limit = entry.gdt_limit;
  sregs.idt.base = 0;
  sregs.idt.limit = 0;
  sregs.cr0 = entry.cr0;
  sregs.cr3 = entry.cr3;
  sregs.cr4 = entry.cr4;
  sregs.efer = entry.efer;
  require_ioctl("set the system registers of a vCPU", fd_.get(), KVM_SET_SREGS, &sregs);
  kvm_regs regs{};
  regs.rip = entry.rip;
  regs.rsp = entry.rsp;
  regs.rax = entry.rax;
  regs.rbx = entry.rbx;
  regs.rsi = entry.rsi;
  regs.rflags = entry.rflags;
  require_ioctl("set the registers of a vCPU", fd_.get(), KVM_SET_REGS, &regs);
}

// Inside KVM_RUN only the kick is open, so a kick sent at any moment ends the run that is under way or the
// next one: no handler, no race.
void Vcpu::open_kick_signal() {
  kvm_signal_mask header{};
  header.len = sizeof(std::uint64_t);  // of the kernel's set; glibc's is larger
  const std::uint64_t mask = ~(std::uint64_t{1} << (kick_signal_ - 1));
  KvmTable<kvm_signal_mask, std::uint64_t> request(header, std::span(&mask, 1));
  require_ioctl("open the kick signal in KVM_RUN", fd_.get(), KVM_SET_SIGNAL_MASK, request.get());
}

void Vcpu::consume_kick() {
  sigset_t kick;
  ::sigemptyset(&kick);
  ::sigaddset(&kick, kick_signal_);
  const timespec now{};
  while (::sigtimedwait(&kick, nullptr, &now) > 0) {
  }
}

void Vcpu::stop() {
  wish_.store(Wish::stop);
  kick();
}

void Vcpu::pause() {
  Wish running = Wish::run;
  if (wish_.compare_exchange_strong(running, Wish::pause)) kick();
}

void Vcpu::resume() {
  Wish paused = Wish::pause;
  wish_.compare_exchange_strong(paused, Wish::run);
}

void Vcpu::kick() {
  const std::lock_guard lock(thread_mutex_);
  if (running_) ::pthread_kill(thread_, kick_signal_);
}

VcpuEnd Vcpu::fail(std::string detail) {
  detail_ = std::move(detail);
  return VcpuEnd::internal_error;
}

VcpuEnd Vcpu::run(AddressDecoder& ports, AddressDecoder& mmio) {
  open_kick_signal();
  {
    const std::lock_guard lock(thread_mutex_);
    thread_ = ::pthread_self();
    running_ = true;
  }
  struct Leave {
    Vcpu& vcpu;
    ~Leave() {
      const std::lock_guard lock(vcpu.thread_mutex_);
      vcpu.running_ = false;
    }
  } const leave{*this};
  for (Wish wish = wish_.load(); wish != Wish::stop; wish = wish_.load()) {
    // An entry that leaves at once completes the exit before it (KVM API, "immediate_exit"); that may take
    // further exits, which are served as ever.
    run_->immediate_exit = wish == Wish::pause;
    if (::ioctl(fd_.get(), KVM_RUN, 0) < 0) {
      // EAGAIN: a processor the guest has not started yet.
      if (errno == EINTR || errno == EAGAIN) {
        if (errno == EINTR) count(Exit::interrupted);
        consume_kick();
        if (wish != Wish::pause) continue;
        deliver_collected(ports);
        break;
      }
      return fail(std::string("KVM_RUN: ") + std::strerror(errno));
    }
    deliver_collected(ports);
    switch (run_->exit_reason) {
      case KVM_EXIT_IO:
        serve_port(ports);
        break;
      case KVM_EXIT_MMIO:
        serve_mmio(mmio);
        break;
      case KVM_EXIT_INTR:
      case KVM_EXIT_IRQ_WINDOW_OPEN:
        count(Exit::interrupted);
        break;
      case KVM_EXIT_IOAPIC_EOI:  // a guest may mark any message as level-triggered; nobody waits for its end
        count(Exit::other);
        break;
      case KVM_EXIT_SHUTDOWN:
        return VcpuEnd::triple_fault;
      case KVM_EXIT_SYSTEM_EVENT:
        return VcpuEnd::reset;
      case KVM_EXIT_HLT:
        return VcpuEnd::halted;
      case KVM_EXIT_INTERNAL_ERROR:
        return fail(describe_internal_error(*run_));
      case KVM_EXIT_FAIL_ENTRY:
        return fail("the processor refused to enter the guest, hardware reason " +
                    hex(run_->fail_entry.hardware_entry_failure_reason) + " (KVM_EXIT_FAIL_ENTRY)");
      default:
        count(Exit::other);
        return fail("an exit nobody handles (KVM exit reason " + std::to_string(run_->exit_reason) + ")");
    }
  }
  return VcpuEnd::stopped;
}

// The ring moves on only after a write was passed on, so that whoever finds it empty comes after all of them.
void Vcpu::deliver_collected(AddressDecoder& ports) {
  if (ring_ == nullptr) return;
  const std::atomic_ref first(ring_->first);
  const std::atomic_ref last(ring_->last);
  if (first.load(std::memory_order_acquire) == last.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(vm_.collected_writes_mutex());
  for (std::uint32_t at = first.load(); at != last.load(std::memory_order_acquire); first.store(at)) {
    const kvm_coalesced_mmio& write = ring_->coalesced_mmio[at];
    const std::size_t size = std::min<std::size_t>(write.len, sizeof write.data);
    ports.write(write.phys_addr, std::span(reinterpret_cast<const std::byte*>(write.data), size));
    collected_writes_.add();
    at = (at + 1) % ring_entries;
  }
}

void Vcpu::serve_port(AddressDecoder& ports) {
  const auto& io = run_->io;
  auto* data = reinterpret_cast<std::byte*>(run_) + io.data_offset;
  const bool out = io.direction == KVM_EXIT_IO_OUT;
  count(out ? Exit::port_out : Exit::port_in);
  for (std::uint32_t i = 0; i < io.count; ++i, data += io.size) {
    if (out) {
      ports.write(io.port, std::span<const std::byte>(data, io.size));
    } else {
      std::memset(data, 0xff, io.size);
      ports.read(io.port, std::span(data, io.size));
    }
  }
}

void Vcpu::serve_mmio(AddressDecoder& mmio) {
  auto& access = run_->mmio;
  auto* data = reinterpret_cast<std::byte*>(access.data);
  const std::size_t size = std::min<std::size_t>(access.len, sizeof access.data);
  count(access.is_write != 0 ? Exit::mmio_write : Exit::mmio_read);
  if (access.is_write != 0) {
    mmio.write(access.phys_addr, std::span<const std::byte>(data, size));
  } else {
    std::memset(data, 0xff, size);
    mmio.read(access.phys_addr, std::span(data, size));
  }
}

std::optional<CpuRegisters> Vcpu::registers() const {
  kvm_regs regs{};
  kvm_sregs sregs{};
  if (kvm_ioctl(fd_.get(), KVM_GET_REGS, &regs) != 0 || kvm_ioctl(fd_.get(), KVM_GET_SREGS, &sregs) != 0)
    return std::nullopt;
  return CpuRegisters{
      .instruction_pointer = regs.rip,
      .general = {{{"rax", regs.rax},
                   {"rbx", regs.rbx},
                   {"rcx", regs.rcx},
                   {"rdx", regs.rdx},
                   {"rsi", regs.rsi},
                   {"rdi", regs.rdi},
                   {"rsp", regs.rsp},
                   {"rbp", regs.rbp},
                   {"r8", regs.r8},
                   {"r9", regs.r9},
                   {"r10", regs.r10},
                   {"r11", regs.r11},
                   {"r12", regs.r12},
                   {"r13", regs.r13},
                   {"r14", regs.r14},
                   {"r15", regs.r15},
                   {"rip", regs.rip},
                   {"rflags", regs.rflags}}},
      .control = {{{"cr0", sregs.cr0},
                   {"cr2", sregs.cr2},
                   {"cr3", sregs.cr3},
                   {"cr4", sregs.cr4},
                   {"cr8", sregs.cr8},
                   {"efer", sregs.efer},
                   {"apic_base", sregs.apic_base}}},
      .segments = {{named("cs", sregs.cs), named("ds", sregs.ds), named("es", sregs.es),
                    named("fs", sregs.fs), named("gs", sregs.gs), named("ss", sregs.ss),
                    named("tr", sregs.tr), named("ldt", sregs.ldt)}},
      .tables = {{{"gdt", sregs.gdt.base, sregs.gdt.limit}, {"idt", sregs.idt.base, sregs.idt.limit}}},
  };
}

}  // namespace hum
