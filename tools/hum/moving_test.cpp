// SPDX-License-Identifier: Apache-2.0
// A running machine goes on in another Vm of the process, as often as one likes, and its guest notices
// nothing.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "devices/registry.h"
#include "devices/temporary_file.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"
#include "vmm/machine/vm.h"

namespace hum {
namespace {

using Seconds = std::chrono::duration<double>;
using testing::TemporaryFile;

bool no_kvm() {
  if (::access("/dev/kvm", R_OK | W_OK) == 0) return false;
  WARN("skipped: /dev/kvm cannot be opened");
  return true;
}

VmConfig config_for(Transport transport, Irqchip irqchip, std::uint32_t cpus = 1) {
  VmConfig config;
  config.cpus = cpus;
  config.memory = 32 << 20;
  config.transport = transport;
  config.irqchip = irqchip;
  config.boot.kernel_path = std::string(HUM_IMAGE_FOLDER) + "/moving.elf";
  config.boot.command_line = "lines=24 cpus=" + std::to_string(cpus) +
                             (transport == Transport::pci ? " transport=pci" : " transport=mmio");
  config.devices = standard_devices();
  config.devices.push_back({"rng", ""});
  return config;
}

std::string output_of(Vm& vm) {
  std::string text;
  const auto subscription = vm.console().subscribe([&](std::span<const std::byte> piece) {
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return text;
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

const EndRecord& wait_for_end(Vm& vm) {
  pollfd ended{.fd = vm.end_fd(), .events = POLLIN, .revents = 0};
  if (::poll(&ended, 1, 60'000) != 1) vm.end(EndCause::killed, "the guest has come to a standstill");
  return vm.wait();
}

struct Outcome {
  std::string output;
  std::string disk;
  EndCause cause = EndCause::running;
  std::optional<std::uint32_t> code;
  std::size_t moves = 0;
  Seconds lived{};
  Seconds moving{};  // all moves together
};

// Lets the guest run, and moves it `moves` times at random moments that spread over its output, which will be
// `length` bytes, and its life, about `life`.
Outcome run(VmConfig config, std::size_t moves = 0, Seconds life = {}, std::size_t length = 0) {
  const TemporaryFile disk(1 << 20);
  config.devices.push_back({"disk", disk.path()});
  Outcome outcome;
  std::minstd_rand random(4711);
  std::uniform_real_distribution<double> share(0, 1);
  const auto begin = std::chrono::steady_clock::now();
  auto vm = std::make_unique<Vm>(config, all_devices());
  vm->start();
  while (outcome.moves < moves) {
    // However slow or fast the host has become meanwhile, the guest is not over before its last move.
    const bool ahead = 5 * outcome.output.size() * moves > 4 * outcome.moves * length;
    std::this_thread::sleep_for(share(random) *
                                (ahead ? Seconds(0.0005) : life / static_cast<double>(moves)));
    const auto leaving = std::chrono::steady_clock::now();
    std::optional<MachineState> state = vm->hand_over();
    if (!state) break;
    outcome.output += output_of(*vm);
    vm.reset();
    vm = std::make_unique<Vm>(config, all_devices(), std::move(*state));
    vm->start();
    outcome.moving += std::chrono::steady_clock::now() - leaving;
    ++outcome.moves;
  }
  const EndRecord& record = wait_for_end(*vm);
  outcome.lived = std::chrono::steady_clock::now() - begin;
  outcome.output += output_of(*vm);
  outcome.cause = record.cause;
  outcome.code = record.guest_exit_code;
  vm.reset();
  outcome.disk = content_of(disk.path());
  return outcome;
}

void move_often(const VmConfig& config) {
  constexpr std::size_t moves = 100;
  const Outcome unmoved = run(config);
  REQUIRE(unmoved.cause == EndCause::debug_exit);
  REQUIRE(unmoved.code == 0u);
  REQUIRE(unmoved.output.find("line 23 ") != std::string::npos);
  const Outcome moved = run(config, moves, unmoved.lived, unmoved.output.size());
  INFO("a move took " << moved.moving.count() * 1e3 / static_cast<double>(moves) << " ms, the guest ran for "
                      << unmoved.lived.count() * 1e3 << " ms unmoved");
  CHECK(moved.moves == moves);
  CHECK(moved.cause == EndCause::debug_exit);
  CHECK(moved.code == 0u);
  CHECK(moved.output == unmoved.output);
  CHECK((moved.disk == unmoved.disk));  // not printed: 1 MiB
}

}  // namespace

TEST_CASE("a guest that is moved 100 times prints and writes the same over PCI") {
  if (!no_kvm()) move_often(config_for(Transport::pci, Irqchip::split));
}
TEST_CASE("a guest that is moved 100 times prints and writes the same over MMIO") {
  if (!no_kvm()) move_often(config_for(Transport::mmio, Irqchip::split));
}
TEST_CASE("a guest that is moved 100 times prints and writes the same over PCI with the I/O APIC in KVM") {
  if (!no_kvm()) move_often(config_for(Transport::pci, Irqchip::kernel));
}
TEST_CASE("a guest that is moved 100 times prints and writes the same over MMIO with the I/O APIC in KVM") {
  if (!no_kvm()) move_often(config_for(Transport::mmio, Irqchip::kernel));
}
TEST_CASE("a guest that is moved 100 times prints and writes the same on two processors") {
  if (!no_kvm()) move_often(config_for(Transport::pci, Irqchip::split, 2));
}

TEST_CASE("files and blocks that are memory go with a guest, and stay locked to it") {
  if (no_kvm()) return;
  const TemporaryFile first(3 << 20);
  const TemporaryFile second(1 << 20);
  const TemporaryFile disk(1 << 20);
  VmConfig config = config_for(GENERATE(Transport::pci, Transport::mmio), Irqchip::split);
  config.devices.push_back({"disk", disk.path()});
  config.devices.push_back({"pmem", first.path()});
  config.devices.push_back({"mem", "1G,requested=2M"});
  config.devices.push_back({"pmem", second.path() + ",readonly=on"});
  auto vm = std::make_unique<Vm>(config, all_devices());
  vm->start();
  vm->change("mem0", "requested=4M");
  for (int move = 0; move < 5; ++move) {
    CHECK_THROWS_AS(Vm(config, all_devices()), ConfigError);  // the file
    std::optional<MachineState> state = vm->hand_over();
    REQUIRE(state);
    CHECK(state->memory.device_regions().size() == 3);
    vm.reset();
    vm = std::make_unique<Vm>(config, all_devices(), std::move(*state));
    vm->start();
  }
  const auto reports = vm->device_reports();
  const auto mem =
      std::find_if(reports.begin(), reports.end(), [](const auto& each) { return each.name == "mem"; });
  REQUIRE(mem != reports.end());
  CHECK(mem->counters.at(1).value == 4 << 20);
  CHECK(wait_for_end(*vm).guest_exit_code == 0u);
}

TEST_CASE("a guest that is paused in place goes on as if nothing had been") {
  if (no_kvm()) return;
  const TemporaryFile disk(1 << 20);
  VmConfig config = config_for(Transport::pci, Irqchip::split);
  config.devices.push_back({"disk", disk.path()});
  Vm vm(config, all_devices());
  vm.start();
  for (int round = 0; round < 20; ++round) {
    if (!vm.pause()) break;
    const std::vector<std::byte> state = vm.save();
    CHECK(vm.pause());
    CHECK(state.size() > 4096);
    vm.resume();
  }
  const EndRecord& record = wait_for_end(vm);
  CHECK(record.cause == EndCause::debug_exit);
  CHECK(record.guest_exit_code == 0u);
  CHECK_FALSE(vm.pause());
  CHECK_FALSE(vm.hand_over());
}

TEST_CASE("a VM that ends while it is paused does not go on") {
  if (no_kvm()) return;
  const TemporaryFile disk(1 << 20);
  VmConfig config = config_for(Transport::mmio, Irqchip::kernel);
  config.devices.push_back({"disk", disk.path()});
  Vm vm(config, all_devices());
  vm.start();
  REQUIRE(vm.pause());
  vm.end(EndCause::killed, "by a test");
  CHECK_FALSE(vm.pause());
  CHECK_FALSE(vm.hand_over());
  CHECK(vm.wait().detail == "by a test");
}

TEST_CASE("a state goes only into a machine of the same configuration") {
  if (no_kvm()) return;
  const VmConfig config = config_for(Transport::pci, Irqchip::split);
  Vm vm(config, all_devices());
  vm.start();
  REQUIRE(vm.pause());
  const std::vector<std::byte> state = vm.save();
  const auto refusal = [](const VmConfig& other, const std::vector<std::byte>& fields) -> std::string {
    try {
      GuestMemory memory(std::array{GuestRange{{0}, 32 << 20}});
      const Vm next(other, all_devices(), MachineState{fields, std::move(memory)});
    } catch (const ConfigError& error) {
      return error.key() + " " + error.value();
    }
    return "accepted";
  };
  CHECK(refusal(config, state) == "accepted");
  VmConfig other = config;
  other.cpus = 2;
  CHECK(refusal(other, state) == "state machine.cpus");
  other = config;
  other.memory = 64 << 20;
  CHECK(refusal(other, state) == "memory 64M");
  other = config;
  other.transport = Transport::mmio;
  CHECK(refusal(other, state) == "state machine.transport");
  other = config;
  other.irqchip = Irqchip::kernel;
  CHECK(refusal(other, state) == "state machine.irqchip");
  other = config;
  other.devices.pop_back();
  CHECK(refusal(other, state) == "state machine.virtio-devices");
  std::vector<std::byte> cut = state;
  cut.pop_back();
  CHECK(refusal(config, cut) == "state ");
}

}  // namespace hum
