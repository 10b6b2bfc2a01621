// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "vmm/acpi/aml.h"
#include "vmm/acpi/fixed_hardware.h"
#include "vmm/base/console_hub.h"
#include "vmm/base/log.h"
#include "vmm/base/options.h"
#include "vmm/base/state.h"
#include "vmm/bus/address_decoder.h"
#include "vmm/bus/interrupts.h"
#include "vmm/memory/device_memory.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// What a device may ask of its machine, from any thread; each call returns at once and the first one wins.
class MachineControl {
 public:
  virtual ~MachineControl() = default;

  virtual void power_off() = 0;  // the guest switched itself off (ACPI S5)
  virtual void reset() = 0;      // the guest reset itself: a reboot, or the end of a panic
  virtual void debug_exit(std::uint32_t code) = 0;
  virtual void guest_panicked() = 0;  // the guest says so (pvpanic)
  // The VM is to be paused until somebody has seen to the reason, a sentence for the user.
  virtual void want_pause(std::string_view reason) = 0;
};

// Something of the program's that devices use together, from any thread. A kind of device that needs one
// finds it by its type.
class DeviceService {
 public:
  virtual ~DeviceService() = default;
};

// All that a device gets from the machine; outlives the device.
struct DeviceContext {
  const GuestMemory& memory;
  AddressDecoder& ports;
  AddressDecoder& mmio;
  IrqPins& irqs;
  MachineControl& control;
  ConsoleHub& console;  // the machine's console
  const Log& log;
  DeviceMemory& device_memory;
  // Takes what is to be checked once all else is made and before the guest runs: that what the making of a
  // device has only begun (the start of another process) went well. A check throws as the making would.
  std::function<void(std::function<void()> check)> before_start = [](const auto& check) { check(); };
  std::vector<DeviceService*> services{};  // what the program lends; outlives the machine

  // The first service of that type; null: there is none.
  template <class Service>
  Service* service() const {
    for (DeviceService* const each : services)
      if (auto* const found = dynamic_cast<Service*>(each)) return found;
    return nullptr;
  }
};

// A device with registers of its own at fixed places: it maps its windows when it is made. Its address
// windows and interrupts follow from its constructor, what ACPI says of it from acpi_node() and declare().
class PlatformDevice {
 public:
  virtual ~PlatformDevice() = default;

  // The node under \_SB, empty for a device the guest is not told about.
  virtual acpi::Aml acpi_node() const { return {}; }
  // Says what of the fixed hardware this device is.
  virtual void declare(acpi::FixedHardware& /*fixed*/) const {}
  // The operator's request to switch off; true if the device can pass it on to the guest.
  virtual bool press_power_button() { return false; }
  // The operator types Ctrl-Alt-Del; true if the device can pass it on to the guest.
  virtual bool press_ctrl_alt_del() { return false; }

  // All that the guest could have changed. Visited while no vCPU runs.
  virtual void fields(StateVisitor& /*visitor*/) {}
};

// One device of a VM as it was asked for: "disk" and "disk.img,readonly=on".
struct DeviceConfig {
  std::string kind;
  std::string options;
  std::string name{};              // by which Vm knows it; empty: its kind and the lowest number that is free
  std::optional<unsigned> slot{};  // on PCI; none: the lowest that is free
};

// One kind of device: a row of the registry. Adding a device is one file, one row, one test.
struct DeviceKind {
  using PlatformFactory = std::unique_ptr<PlatformDevice> (*)(const OptionValues&, DeviceContext&);
  using VirtioFactory = std::unique_ptr<virtio::VirtioDevice> (*)(const OptionValues&, DeviceContext&);

  std::string_view name;  // as on the command line: "disk"
  std::string_view help;
  std::span<const OptionSpec> options;
  std::variant<PlatformFactory, VirtioFactory> create;  // throws ConfigError, HostError
  bool needs_shared_memory = false;  // other processes map guest memory: MemoryBacking::shared
  bool brings_memory = false;        // DeviceMemory::place: comes to a VM that runs while that stands still
};

}  // namespace hum
