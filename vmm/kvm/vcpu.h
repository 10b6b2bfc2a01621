// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/counter.h"
#include "vmm/bus/address_decoder.h"
#include "vmm/kvm/abi.h"
#include "vmm/kvm/cpu_registers.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/memory/cpu_entry.h"

namespace hum {

// Why a vCPU stopped running.
enum class VcpuEnd : std::uint8_t {
  stopped,         // stop() or pause() was called
  triple_fault,    // KVM_EXIT_SHUTDOWN
  reset,           // KVM_EXIT_SYSTEM_EVENT
  halted,          // HLT with no interrupt controller to wake it
  internal_error,  // KVM could not go on
};

// One vCPU. Made by the thread that sets the VM up; run belongs to the vCPU's own thread, which blocks every
// signal; stop, pause and resume may come from any thread.
class Vcpu {
 public:
  // The exits that are counted, by KVM's reasons.
  enum class Exit : std::uint8_t { port_in, port_out, mmio_read, mmio_write, interrupted, other };
  static constexpr std::array<std::string_view, 6> exit_names = {"port-in",    "port-out",    "mmio-read",
                                                                 "mmio-write", "interrupted", "other"};

  // kick_signal: a signal that only vCPU threads get; below SIGRTMIN it is delivered even if the user's queue
  // of signals is full. Throws HostError.
  Vcpu(KvmVm& vm, std::uint32_t id, int kick_signal);
  ~Vcpu();
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  std::uint32_t id() const { return id_; }
  // Throws HostError.
  void set_cpuid(const std::vector<kvm_cpuid_entry2>& leaves);
  // Sets one model-specific register; false where KVM refuses it.
  bool set_msr(std::uint32_t index, std::uint64_t value);
  // None where KVM refuses it.
  std::optional<std::uint64_t> msr(std::uint32_t index) const;
  // Throws HostError.
  void set_start(const CpuEntry& entry);

  // Runs the guest until it ends or stop or pause is called; answers exits from the two address spaces.
  VcpuEnd run(AddressDecoder& ports, AddressDecoder& mmio);
  // Makes run return soon, now or at its next entry, for good.
  void stop();
  // The same between two instructions: what an exit is to bring the guest has arrived when run returns, so
  // that KVM's registers are the whole state. After resume, run may be called again.
  void pause();
  void resume();

  int fd() const { return fd_.get(); }

  // After run: what happened in words, for internal errors; the registers, unless KVM refuses them.
  const std::string& detail() const { return detail_; }
  std::optional<CpuRegisters> registers() const;
  // Any thread.
  std::uint64_t exits(Exit exit) const { return exits_[static_cast<std::size_t>(exit)].get(); }
  // Writes passed on that did not exit by themselves (WriteCollector).
  std::uint64_t collected_writes() const { return collected_writes_.get(); }

 private:
  void count(Exit exit) { exits_[static_cast<std::size_t>(exit)].add(); }
  void deliver_collected(AddressDecoder& ports);
  void serve_port(AddressDecoder& ports);
  void serve_mmio(AddressDecoder& mmio);
  void kick();
  void open_kick_signal();
  void consume_kick();
  VcpuEnd fail(std::string detail);

  KvmVm& vm_;
  std::uint32_t id_;
  int kick_signal_;
  Fd fd_;
  std::size_t mapping_size_;
  kvm_run* run_ = nullptr;
  kvm_coalesced_mmio_ring* ring_ = nullptr;  // of collected writes; null where KVM has none
  enum class Wish : std::uint8_t { run, pause, stop };
  std::atomic<Wish> wish_ = Wish::run;
  std::mutex thread_mutex_;  // guards the two below; held while the thread is signalled, so that it is there
  pthread_t thread_ = {};
  bool running_ = false;
  std::array<Counter, exit_names.size()> exits_;
  Counter collected_writes_;
  std::string detail_;
};

}  // namespace hum
