// SPDX-License-Identifier: Apache-2.0
// The library as programs use it: devices and machine together, on KVM.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "devices/registry.h"
#include "vmm/base/errors.h"
#include "vmm/base/temporary_folder.h"
#include "vmm/base/testing.h"
#include "vmm/machine/vm.h"

namespace hum {
namespace {

std::string image(const std::string& name) {
  return std::string(HUM_IMAGE_FOLDER) + "/" + name + ".elf";
}

bool no_kvm() {
  if (::access("/dev/kvm", R_OK | W_OK) == 0) return false;
  WARN("skipped: /dev/kvm cannot be opened");
  return true;
}

VmConfig config_for(const std::string& name, const std::string& command_line = {}) {
  VmConfig config;
  config.memory = 32 << 20;
  config.boot.kernel_path = image(name);
  config.boot.command_line = command_line;
  config.devices = standard_devices();
  return config;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::size_t open_descriptors() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

}  // namespace

TEST_CASE("several VMs run in one process at once and end each with its own code") {
  if (no_kvm()) return;
  std::vector<std::unique_ptr<Vm>> vms;
  for (int i = 0; i < 6; ++i)
    vms.push_back(
        std::make_unique<Vm>(config_for("exit_code", "exit=" + std::to_string(10 + i)), all_devices()));
  for (const auto& vm : vms) vm->start();
  for (std::size_t i = 0; i < vms.size(); ++i) {
    const EndRecord& record = vms[i]->wait();
    CHECK(record.cause == EndCause::debug_exit);
    CHECK(record.guest_exit_code == 10 + i);
  }
}

TEST_CASE("a VM leaves no descriptor behind, started or not") {
  if (no_kvm()) return;
  const std::size_t before = open_descriptors();
  {
    const Vm never_started(config_for("exit_code"), all_devices());
    Vm vm(config_for("exit_code", "exit=1"), all_devices());
    vm.start();
    vm.wait();
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("destroying a running VM ends it, and end from another thread too") {
  if (no_kvm()) return;
  {
    Vm vm(config_for("hang", "method=busy"), all_devices());
    vm.start();
  }
  Vm vm(config_for("hang"), all_devices());
  vm.start();
  std::thread other([&] { vm.end(EndCause::killed, "by a test"); });
  const EndRecord& record = vm.wait();
  other.join();
  CHECK(record.cause == EndCause::killed);
  CHECK(record.detail == "by a test");
  CHECK(&vm.wait() == &record);
}

TEST_CASE("a VM whose KVM fails ends within a second, and says where") {
  if (no_kvm()) return;
  const auto begin = std::chrono::steady_clock::now();
  Vm vm(config_for("unbacked_fetch"), all_devices());
  vm.start();
  const EndRecord& record = vm.wait();
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(1));
  CHECK(record.cause == EndCause::internal_error);
  CHECK(record.instruction_pointer == 0xfd000000);
  REQUIRE(record.vcpus.size() == 1);
  CHECK(record.vcpus[0].registers.instruction_pointer == 0xfd000000);
  CHECK(record.vcpus[0].symbol.empty());
}

TEST_CASE("a VM that was ended leaves the registers of every vCPU and the names of where they were") {
  if (no_kvm()) return;
  const hum::testing::TemporaryFolder folder;
  VmConfig config = config_for("hang");
  config.cpus = 2;
  config.record = folder / "record.json";
  Vm vm(std::move(config), all_devices());
  vm.start();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  vm.end(EndCause::killed);
  const EndRecord& record = vm.wait();
  REQUIRE(record.vcpus.size() == 2);
  CHECK(record.vcpus[0].symbol.find("+0x") != std::string::npos);
  CHECK(record.symbol.empty());  // no vCPU failed
  const auto json = nlohmann::json::parse(read_file(folder / "record.json"));
  CHECK(json["vcpus"][0]["symbol"] == record.vcpus[0].symbol);
  CHECK(json["vcpus"][1]["id"] == 1);
  CHECK(json["vcpus"][0]["registers"]["rip"].get<std::string>().starts_with("0x"));
  CHECK(json["vcpus"][0]["control"].contains("efer"));
  CHECK(json["vcpus"][0]["segments"]["cs"].contains("selector"));
  CHECK(json["vcpus"][0]["tables"]["idt"].contains("limit"));
}

TEST_CASE("a VM that ends by its guest's wish leaves no registers") {
  if (no_kvm()) return;
  Vm vm(config_for("pvh_entry", "arg=value"), all_devices());
  vm.start();
  CHECK(vm.wait().cause == EndCause::debug_exit);
  CHECK(vm.wait().vcpus.empty());
}

TEST_CASE("a file of symbols that is not there is refused before the VM starts") {
  if (no_kvm()) return;
  VmConfig config = config_for("hang");
  config.symbols = "/nowhere/vmlinux";
  CHECK_THROWS_AS(Vm(std::move(config), all_devices()), ConfigError);
}

TEST_CASE("the record says running from the start and is replaced at the end") {
  if (no_kvm()) return;
  const hum::testing::TemporaryFolder folder;
  VmConfig config = config_for("hang");
  config.record = folder / "record.json";
  Vm vm(std::move(config), all_devices());
  CHECK_FALSE(std::filesystem::exists(folder / "record.json"));
  vm.start();
  const auto running = nlohmann::json::parse(read_file(folder / "record.json"));
  CHECK(running["cause"] == "running");
  CHECK(running["process"]["pid"] == ::getpid());
  CHECK(running["kernel"]["digest"].get<std::string>().size() == 7 + 64);
  vm.end(EndCause::killed);
  vm.wait();
  const auto ended = nlohmann::json::parse(read_file(folder / "record.json"));
  CHECK(ended["cause"] == "killed");
  CHECK(ended["process"] == running["process"]);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("console output reaches a reader that subscribes late") {
  if (no_kvm()) return;
  Vm vm(config_for("pvh_entry", "arg=value"), all_devices());
  vm.start();
  vm.wait();
  std::string text;
  const auto subscription = vm.console().subscribe([&](std::span<const std::byte> piece) {
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  CHECK(text.find("PASS") != std::string::npos);
}

TEST_CASE("wrong configurations are refused by name and leave nothing behind") {
  if (no_kvm()) return;
  const std::size_t before = open_descriptors();
  const auto key_of = [](VmConfig config) {
    try {
      const Vm vm(std::move(config), all_devices());
    } catch (const ConfigError& error) {
      return error.key();
    }
    return std::string("accepted");
  };
  VmConfig config = config_for("exit_code");
  config.devices.push_back({"floppy", ""});
  CHECK(key_of(config) == "device");
  config = config_for("missing");
  CHECK(key_of(config) == "kernel");
  config = config_for("exit_code");
  config.boot.initrd_path = "/nowhere";
  CHECK(key_of(config) == "initrd");
  config = config_for("exit_code");
  config.devices.push_back({"disk", "/nowhere"});
  CHECK(key_of(config) == "disk.path");
  config = config_for("exit_code");
  config.devices.push_back({"disk", image("exit_code") + ",colour=red"});
  CHECK(key_of(config) == "disk");
  config = config_for("exit_code");
  config.memory = 1ull << 50;
  CHECK(key_of(config) == "memory");
  config = config_for("exit_code");
  config.record = "/nowhere/record.json";
  CHECK(key_of(config) == "record");
  CHECK(open_descriptors() == before);
}

TEST_CASE("the machine's options are read from text, with their limits") {
  VmConfig config;
  config.set("cpus", "64");
  config.set("memory", "512");
  CHECK(config.cpus == 64);
  CHECK(config.memory == 512ull << 20);
  config.set("memory", "5G");
  CHECK(config.memory == 5ull << 30);
  config.set("transport", "mmio");
  CHECK(config.transport == Transport::mmio);
  for (const auto& [key, text] :
       {std::pair("cpus", "0"), std::pair("cpus", "65"), std::pair("memory", "1"), std::pair("memory", "2T"),
        std::pair("memory", "4195328"), std::pair("irqchip", "pic"), std::pair("cpu", "1")})
    CHECK_THROWS_AS(config.set(key, text), ConfigError);
}

TEST_CASE("more virtio devices than the MMIO transport has interrupts for are refused, and PCI is named") {
  if (no_kvm()) return;
  VmConfig config = config_for("exit_code");
  config.transport = Transport::mmio;
  for (int i = 0; i < 18; ++i) config.devices.push_back({"rng", ""});
  {
    const Vm fits(config, all_devices());
  }
  config.devices.push_back({"rng", ""});
  try {
    const Vm vm(config, all_devices());
    FAIL("accepted");
  } catch (const ConfigError& error) {
    CHECK(std::string(error.what()).find("pci") != std::string::npos);
  }
}

}  // namespace hum
