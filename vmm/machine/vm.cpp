// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/vm.h"

#include <poll.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <exception>
#include <optional>
#include <thread>
#include <vector>

#include "vmm/base/errors.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/base/state.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/symbols.h"

namespace hum {
namespace {

constexpr std::size_t console_lines_kept = 50;
constexpr std::chrono::seconds output_patience{5};

}  // namespace

struct Vm::Parts {
  Parts(VmConfig given, std::span<const DeviceKind* const> known, std::optional<MachineState> state, Log sink)
      : config(std::move(given)),
        log(std::move(sink)),
        kinds(known),
        machine(state ? Machine(config, kinds, std::move(*state), log) : Machine(config, kinds, log)) {
    machine.settle();
    if (!config.record.empty()) record_file.emplace(config.record);
    if (!config.symbols.empty()) symbols.emplace(config.symbols);
    record.kernel = config.kernel_name.empty() ? config.boot.kernel_path : config.kernel_name;
    record.boot_protocol = to_string(machine.kernel().protocol);
    if (!machine.kernel().digest.empty()) record.kernel_digest = "sha256:" + machine.kernel().digest;
  }

  void run();
  void run_vcpu(Vcpu& vcpu);
  void join_vcpus();
  bool ended() { return machine.end_latch().get().cause != EndCause::running; }
  void keep_record();
  void fill_in_registers();
  void fill_in_counts(EndRecord& to);
  void fill_in_end();

  VmConfig config;
  Log log;
  std::span<const DeviceKind* const> kinds;
  std::optional<RecordFile> record_file;
  std::optional<SymbolFile> symbols;
  Machine machine;
  EndRecord record;
  Timer patience;
  std::chrono::steady_clock::time_point started;
  std::vector<std::thread> threads;
  std::optional<std::uint32_t>
      failed_vcpu;       // written by the one thread that ends the VM, read after it was joined
  bool running = false;  // since start
  bool finished = false;
};

void Vm::Parts::run() {
  assert(threads.empty());
  machine.resume();
  for (const auto& vcpu : machine.vcpus()) {
    vcpu->resume();
    threads.push_back(start_thread("vcpu" + std::to_string(vcpu->id()), [this, &vcpu] { run_vcpu(*vcpu); }));
  }
}

void Vm::Parts::join_vcpus() {
  for (std::thread& thread : threads) thread.join();
  threads.clear();
}

void Vm::Parts::run_vcpu(Vcpu& vcpu) {
  EndLatch& latch = machine.end_latch();
  try {
    switch (vcpu.run(machine.ports(), machine.mmio())) {
      case VcpuEnd::stopped:
        break;
      case VcpuEnd::triple_fault:
        if (latch.triple_fault()) failed_vcpu = vcpu.id();
        break;
      case VcpuEnd::reset:
        latch.reset();
        break;
      case VcpuEnd::halted:
      case VcpuEnd::internal_error:
        if (latch.end({.cause = EndCause::internal_error, .detail = vcpu.detail()})) failed_vcpu = vcpu.id();
        break;
    }
  } catch (const std::exception& error) {
    latch.end({.cause = EndCause::host_error, .detail = error.what()});
  }
}

void Vm::Parts::keep_record() {
  if (!record_file) return;
  try {
    record_file->write(record);
  } catch (const std::exception& error) {
    log.error(error.what());
  }
}

// Only for a VM that failed: reading the registers and above all the symbols takes time that a guest test
// which ends by itself need not spend.
void Vm::Parts::fill_in_registers() {
  std::vector<std::uint64_t> addresses;
  for (const auto& vcpu : machine.vcpus()) {
    const std::optional<CpuRegisters> registers = vcpu->registers();
    if (!registers) continue;
    record.vcpus.push_back({vcpu->id(), *registers, {}});
    addresses.push_back(registers->instruction_pointer);
  }
  std::vector<std::string> names(addresses.size());
  try {
    names = symbols ? symbols->describe(addresses) : SymbolFile(config.boot.kernel_path).describe(addresses);
  } catch (const std::exception& error) {  // the kernel's file may be gone
    log.info(error.what());
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    EndRecord::VcpuState& vcpu = record.vcpus[i];
    vcpu.symbol = std::move(names[i]);
    if (vcpu.id != failed_vcpu) continue;
    record.ended_vcpu = vcpu.id;
    record.instruction_pointer = vcpu.registers.instruction_pointer;
    record.symbol = vcpu.symbol;
  }
}

void Vm::Parts::fill_in_end() {
  const EndLatch::End end = machine.end_latch().get();
  record.cause = end.cause;
  record.detail = end.detail;
  record.guest_exit_code = end.guest_exit_code;
  if (!is_orderly(end.cause)) fill_in_registers();
  fill_in_counts(record);
  record.console = machine.console().last_lines(console_lines_kept);
}

// While the vCPUs run, too.
void Vm::Parts::fill_in_counts(EndRecord& to) {
  const std::chrono::duration<double> lived = std::chrono::steady_clock::now() - started;
  to.duration_seconds = lived.count();
  for (const auto& vcpu : machine.vcpus()) {
    for (std::size_t i = 0; i < Vcpu::exit_names.size(); ++i)
      to.exits[std::string(Vcpu::exit_names[i])] += vcpu->exits(static_cast<Vcpu::Exit>(i));
    to.collected_writes += vcpu->collected_writes();
  }
  for (AddressDecoder* const space : {&machine.ports(), &machine.mmio()})
    for (const AddressDecoder::Count& count : space->counts()) {
      to.windows[count.name].reads += count.reads;
      to.windows[count.name].writes += count.writes;
    }
  to.devices = machine.device_reports();
}

Vm::Vm(VmConfig config, std::span<const DeviceKind* const> kinds, Log log)
    : parts_(std::make_unique<Parts>(std::move(config), kinds, std::nullopt, std::move(log))) {}

Vm::Vm(VmConfig config, std::span<const DeviceKind* const> kinds, MachineState state, Log log)
    : parts_(std::make_unique<Parts>(std::move(config), kinds, std::move(state), std::move(log))) {}

Vm::~Vm() {
  if (!parts_->running) return;
  end(EndCause::killed);
  wait();
}

ConsoleHub& Vm::console() const {
  return parts_->machine.console();
}

void Vm::start() {
  assert(!parts_->running);
  parts_->record.started = utc_now();
  parts_->keep_record();
  parts_->started = std::chrono::steady_clock::now();
  parts_->running = true;
  resume();
}

void Vm::resume() {
  try {
    parts_->run();
  } catch (const std::exception& error) {
    end(EndCause::host_error, error.what());
    wait();
    throw;
  }
}

bool Vm::pause() {
  if (parts_->machine.paused()) return !parts_->ended();
  for (const auto& vcpu : parts_->machine.vcpus()) vcpu->pause();
  parts_->join_vcpus();
  if (parts_->ended()) return false;
  parts_->machine.pause();
  return true;
}

std::string Vm::attach(const DeviceConfig& device) {
  const bool brings_memory = std::any_of(parts_->kinds.begin(), parts_->kinds.end(), [&](const auto* kind) {
    return kind->name == device.kind && kind->brings_memory;
  });
  if (!brings_memory) return parts_->machine.attach(device, parts_->kinds);
  std::string name;
  while_paused([&] { name = parts_->machine.attach(device, parts_->kinds); });
  if (name.empty()) throw ConfigError("device", device.kind, "comes too late: the VM has ended");
  return name;
}

bool Vm::detach(std::string_view device) {
  Machine& machine = parts_->machine;
  bool gone = false;
  const auto remove_unused = [&] {
    gone = !machine.in_use(device);
    if (gone) machine.remove(device);
  };
  // A driver may have begun until the vCPUs stand still.
  if (!machine.in_use(device)) while_paused(remove_unused);
  if (!gone) machine.ask_to_let_go(device);
  return gone;
}

int Vm::detached_fd() const {
  return parts_->machine.let_go_fd();
}

std::vector<std::string> Vm::take_detached() {
  std::vector<std::string> names;
  // They stay in a VM that has ended, and so do their names.
  while_paused([&] {
    names = parts_->machine.take_let_go();
    for (const std::string& each : names) parts_->machine.remove(each);
  });
  return names;
}

// No vCPU may be inside a device that goes. Of a VM that has ended none does.
void Vm::while_paused(const std::function<void()>& work) {
  const bool runs = parts_->running && !parts_->machine.paused();
  if (runs && !pause()) return;
  try {
    work();
  } catch (const std::exception&) {
    if (runs) resume();
    throw;
  }
  if (runs) resume();
}

VmConfig Vm::config() const {
  VmConfig config = parts_->config;
  config.devices = parts_->machine.device_configs();
  return config;
}

std::vector<std::byte> Vm::save() {
  assert(parts_->machine.paused());
  return state_of(parts_->machine);
}

std::optional<MachineState> Vm::hand_over() {
  if (!pause()) return {};
  MachineState state{save(), parts_->machine.take_memory()};
  parts_->finished = true;
  parts_->running = false;
  return state;
}

const EndRecord& Vm::wait(int give_up_fd) {
  if (parts_->finished) return parts_->record;
  pollfd ended{.fd = end_fd(), .events = POLLIN, .revents = 0};
  while (::poll(&ended, 1, -1) < 0 && errno == EINTR) {
  }
  parts_->join_vcpus();
  parts_->fill_in_end();
  parts_->keep_record();
  parts_->patience.set(output_patience);
  try {
    parts_->machine.resume();  // of a VM that ended in a pause: devices write what they still have to
  } catch (const HostError& error) {
    parts_->log.error(error.what());
  }
  parts_->machine.stop_devices(give_up_fd >= 0 ? give_up_fd : parts_->patience.fd());
  // What the devices had yet to do may have taken until now, and the record waits for nobody.
  if (auto devices = parts_->machine.device_reports(); devices != parts_->record.devices) {
    parts_->record.devices = std::move(devices);
    parts_->keep_record();
  }
  parts_->finished = true;
  return parts_->record;
}

std::vector<virtio::DeviceReport> Vm::device_reports() const {
  return parts_->machine.device_reports();
}

EndRecord Vm::record() const {
  EndRecord record = parts_->record;
  if (parts_->running && !parts_->finished) parts_->fill_in_counts(record);
  return record;
}

std::vector<DeviceOptions> Vm::device_options() const {
  return parts_->machine.device_options();
}

int Vm::device_errors_fd() const {
  return parts_->machine.end_latch().device_errors_fd();
}

std::vector<DeviceError> Vm::take_device_errors() {
  return parts_->machine.end_latch().take_device_errors();
}

int Vm::end_fd() const {
  return parts_->machine.end_latch().fd();
}

int Vm::pause_wanted_fd() const {
  return parts_->machine.end_latch().pause_wanted_fd();
}

std::string Vm::take_pause_reason() {
  return parts_->machine.end_latch().take_pause_reason();
}

void Vm::change(std::string_view device, std::string_view options) {
  parts_->machine.change(device, options);
}

void Vm::request(std::string_view device, std::string_view verb) {
  parts_->machine.request(device, verb);
}

bool Vm::press_power_button() {
  return parts_->machine.press_power_button();
}

bool Vm::press_ctrl_alt_del() {
  return parts_->machine.press_ctrl_alt_del();
}

void Vm::end(EndCause cause, const std::string& detail) {
  parts_->machine.end_latch().end({.cause = cause, .detail = detail});
}

}  // namespace hum
