// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/options.h"
#include "vmm/boot/boot.h"
#include "vmm/device/device.h"
#include "vmm/memory/guest_memory.h"

namespace hum {

enum class Irqchip : std::uint8_t { split, kernel };
enum class Transport : std::uint8_t { pci, mmio };

// The one description of a VM: what the command line, a file or a program produces, and all that Vm reads.
struct VmConfig {
  std::uint32_t cpus = 1;
  std::uint64_t memory = 256ull << 20;  // bytes
  MemoryBacking backing;
  Irqchip irqchip = Irqchip::split;
  Transport transport = Transport::pci;
  bool hotplug = false;  // virtio devices may come and go while the VM runs; needs Transport::pci
  BootRequest boot;
  std::vector<DeviceConfig> devices;
  std::vector<DeviceService*> services;  // what the program lends to devices; outlives the Vm
  std::string kernel_name;               // what the record calls the kernel; empty: boot.kernel_path
  std::string record;                    // path of the end record; empty: none
  std::string symbols;  // a vmlinux or System.map for the record; empty: what the kernel's own image has
  int kvm_fd = -1;      // an open /dev/kvm that was handed in; -1: open it
  int kick_signal = 0;  // a signal below SIGRTMIN that nothing else in the process uses; 0: SIGSTKFLT

  // Sets one of machine_options() from text. Throws ConfigError.
  void set(std::string_view key, std::string_view text);
};

// The machine's own options: cpus, memory, hugepages, shared-memory, irqchip, transport, boot.
std::span<const OptionSpec> machine_options();

}  // namespace hum
