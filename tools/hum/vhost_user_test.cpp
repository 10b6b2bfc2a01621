// SPDX-License-Identifier: Apache-2.0
// Disks that a qemu-storage-daemon serves, in whole machines.
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>

#include "devices/registry.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"
#include "vmm/machine/vm.h"

extern char** environ;

namespace hum {
namespace {

using namespace std::chrono_literals;

constexpr const char* daemon_program = "/usr/bin/qemu-storage-daemon";

bool cannot_run() {
  if (::access("/dev/kvm", R_OK | W_OK) != 0) {
    WARN("skipped: /dev/kvm cannot be opened");
    return true;
  }
  if (::access(daemon_program, X_OK) != 0) {
    WARN("skipped: there is no qemu-storage-daemon (packages qemu-system-common, qemu-utils)");
    return true;
  }
  return false;
}

// A disk of 1 MiB in a folder of its own, every line of it `hummingbird`, and the daemon that serves it.
class ServedDisk {
 public:
  ServedDisk() {
    std::ofstream file(image());
    for (int byte = 0; byte < 1 << 20; ++byte) file.put("hummingbird\n"[byte % 12]);
    file.close();
    start();
  }
  ~ServedDisk() { kill(); }
  ServedDisk(const ServedDisk&) = delete;
  ServedDisk& operator=(const ServedDisk&) = delete;

  void start() {
    std::filesystem::remove(socket());
    std::array<std::string, 5> words = {daemon_program, "--blockdev",
                                        "file,node-name=disk,filename=" + image(), "--export",
                                        "vhost-user-blk,id=disk,node-name=disk,writable=on,num-queues=4,"
                                        "addr.type=unix,addr.path=" +
                                            socket()};
    std::array<char*, 6> arguments{};
    for (std::size_t i = 0; i < words.size(); ++i) arguments[i] = words[i].data();
    REQUIRE(::posix_spawn(&process_, daemon_program, nullptr, nullptr, arguments.data(), environ) == 0);
    for (int i = 0; i < 1000 && !std::filesystem::exists(socket()); ++i) std::this_thread::sleep_for(10ms);
  }
  // As sudden as it gets.
  void kill() {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }

  std::string socket() const { return folder_ / "socket"; }
  std::string content() const {
    std::ifstream file(image(), std::ios::binary);
    std::stringstream bytes;
    bytes << file.rdbuf();
    return bytes.str();
  }

 private:
  std::string image() const { return folder_ / "disk.raw"; }

  hum::testing::TemporaryFolder folder_;
  pid_t process_ = -1;
};

VmConfig config_for(const std::string& image, Transport transport, const ServedDisk& disk,
                    const std::string& more = {}) {
  VmConfig config;
  config.memory = 128 << 20;
  config.transport = transport;
  config.boot.kernel_path = std::string(HUM_IMAGE_FOLDER) + "/" + image + ".elf";
  config.boot.command_line = transport == Transport::pci ? "transport=pci" : "transport=mmio";
  config.devices = standard_devices();
  config.devices.push_back({"rng", ""});
  config.devices.push_back({"vhost-user-disk", disk.socket() + more});
  return config;
}

std::string output_of(Vm& vm) {
  std::string text;
  const auto subscription = vm.console().subscribe([&](std::span<const std::byte> piece) {
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return text;
}

bool ended(Vm& vm, std::chrono::milliseconds patience) {
  pollfd end{.fd = vm.end_fd(), .events = POLLIN, .revents = 0};
  return ::poll(&end, 1, static_cast<int>(patience.count())) == 1;
}

const EndRecord& wait_for_end(Vm& vm) {
  if (!ended(vm, 60s)) vm.end(EndCause::killed, "the guest has come to a standstill");
  return vm.wait();
}

std::uint64_t reconnections_of(const EndRecord& record) {
  for (const auto& device : record.devices)
    if (device.name == "vhost-user-disk") return device.counters.at(0).value;
  return 0;
}

struct Outcome {
  std::string output;
  std::string disk;
  std::optional<std::uint32_t> code;
  std::uint64_t reconnections = 0;
  unsigned moves = 0;
};

// A guest that writes and reads back all along; its server is killed and started again all along too, and the
// machine is moved in between.
Outcome run_moving(Transport transport, bool disturbed) {
  ServedDisk disk;
  const VmConfig config = [&] {
    VmConfig made = config_for("moving", transport, disk);
    made.boot.command_line += " cpus=1 lines=24";
    return made;
  }();
  Outcome outcome;
  auto vm = std::make_unique<Vm>(config, all_devices());
  vm->start();
  while (disturbed && !ended(*vm, 20ms)) {
    disk.kill();
    if (outcome.moves % 2 == 0) std::this_thread::sleep_for(20ms);
    disk.start();
    if (ended(*vm, 150ms)) break;
    std::optional<MachineState> state = vm->hand_over();
    if (!state) break;
    outcome.output += output_of(*vm);
    vm.reset();
    vm = std::make_unique<Vm>(config, all_devices(), std::move(*state));
    vm->start();
    ++outcome.moves;
  }
  const EndRecord& record = wait_for_end(*vm);
  outcome.code = record.guest_exit_code;
  outcome.reconnections = reconnections_of(record);
  outcome.output += output_of(*vm);
  vm.reset();
  outcome.disk = disk.content();
  return outcome;
}

}  // namespace

TEST_CASE("guests read and write a disk that a qemu-storage-daemon serves") {
  if (cannot_run()) return;
  const Transport transport = GENERATE(Transport::pci, Transport::mmio);
  const std::string image = GENERATE("block_in_flight", "block_queues", "virtio_blk");
  ServedDisk disk;
  Vm vm(config_for(image, transport, disk, image == "block_queues" ? ",queues=4" : ""), all_devices());
  vm.start();
  CHECK(wait_for_end(vm).guest_exit_code == 0u);
  CHECK(output_of(vm).find("PASS") != std::string::npos);
}

TEST_CASE(
    "a guest notices nothing of a qemu-storage-daemon that is killed again and again, moved in between") {
  if (cannot_run()) return;
  const Transport transport = GENERATE(Transport::pci, Transport::mmio);
  const Outcome undisturbed = run_moving(transport, false);
  REQUIRE(undisturbed.code == 0u);
  CHECK(undisturbed.reconnections == 0);
  const Outcome disturbed = run_moving(transport, true);
  CHECK(disturbed.code == 0u);
  CHECK(disturbed.moves > 0);
  CHECK(disturbed.output == undisturbed.output);
  CHECK((disturbed.disk == undisturbed.disk));  // not printed: 1 MiB
}

}  // namespace hum
