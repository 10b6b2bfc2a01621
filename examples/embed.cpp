// SPDX-License-Identifier: Apache-2.0
// Boots an image with the library, prints its console and ends with its exit code: embed IMAGE [COMMAND LINE]
#include <cstdio>
#include <exception>

#include "devices/registry.h"
#include "vmm/machine/vm.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s IMAGE [COMMAND LINE]\n", argv[0]);
    return 2;
  }
  try {
    hum::VmConfig config;
    config.memory = 64 << 20;
    config.boot.kernel_path = argv[1];
    config.boot.command_line = argc > 2 ? argv[2] : "";
    config.devices = hum::standard_devices();

    hum::Vm vm(config, hum::all_devices());
    const auto console = vm.console().subscribe(
        [](std::span<const std::byte> text) { std::fwrite(text.data(), 1, text.size(), stdout); });
    vm.start();
    const hum::EndRecord& end = vm.wait();
    std::printf("ended: %s\n", std::string(to_string(end.cause)).c_str());
    return static_cast<int>(end.guest_exit_code.value_or(0));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "embed: %s\n", error.what());
    return 2;
  }
}
