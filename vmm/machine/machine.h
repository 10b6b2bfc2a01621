// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/console_hub.h"
#include "vmm/base/log.h"
#include "vmm/bus/address_decoder.h"
#include "vmm/bus/ioapic.h"
#include "vmm/device/device.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/device_facts.h"
#include "vmm/machine/end_latch.h"
#include "vmm/machine/state.h"
#include "vmm/machine/vm_config.h"
#include "vmm/pci/pci_bus.h"
#include "vmm/pci/pci_hotplug.h"
#include "vmm/virtio/virtio_core.h"

namespace hum {

// The parts of a machine, put together from a description and ready to run. No threads of its own: Vm owns it
// and runs its vCPUs.
class Machine {
 public:
  // Makes everything, in KVM's cheap order, and loads the kernel. log outlives it. Throws ConfigError,
  // HostError.
  Machine(const VmConfig& config, std::span<const DeviceKind* const> kinds, const Log& log);
  // Makes the successor of a machine with the same configuration; paused. Throws also ConfigError (key state)
  // where the state is damaged or another machine's.
  Machine(const VmConfig& config, std::span<const DeviceKind* const> kinds, MachineState state,
          const Log& log);

  ConsoleHub& console() { return console_; }
  EndLatch& end_latch() { return end_latch_; }
  std::span<const std::unique_ptr<Vcpu>> vcpus() const { return vcpus_; }
  const LoadedKernel& kernel() const { return kernel_; }
  AddressDecoder& ports() { return ports_; }
  AddressDecoder& mmio() { return mmio_; }

  bool press_power_button();
  bool press_ctrl_alt_del();
  // See Vm::change.
  void change(std::string_view device, std::string_view options);
  // See Vm::attach. While the machine is paused if the kind brings memory.
  std::string attach(const DeviceConfig& device, std::span<const DeviceKind* const> kinds);
  // See Transport::in_use. Throws ConfigError: there is none of that name, or this machine has no hotplug.
  bool in_use(std::string_view device);
  // Asks the guest to let a device go.
  void ask_to_let_go(std::string_view device);
  // Readable while there are devices that the guest has let go, unless this machine has no hotplug (-1).
  int let_go_fd() const { return hotplug_ ? hotplug_->ejected_fd() : -1; }
  std::vector<std::string> take_let_go();
  // Destroys a device. While the machine is paused.
  void remove(std::string_view device);
  // See Vm::request.
  void request(std::string_view device, std::string_view verb);
  // When no vCPU runs any more: lets the devices finish their output, waiting for slow readers only until
  // give_up_fd is readable, and takes their queues back.
  void stop_devices(int give_up_fd);
  std::vector<virtio::DeviceReport> device_reports() const;
  // All that there are, with their names, slots and options as they are now, in the order in which they came:
  // what is given out by turns (pins, addresses) goes to the same devices again.
  std::vector<DeviceConfig> device_configs() const;
  std::vector<DeviceOptions> device_options() const;

  // While no vCPU runs: takes the queues back from the devices and holds all interrupts, so that nothing of
  // the machine changes any more; resume undoes that. A second call does nothing.
  void pause();
  void resume();
  bool paused() const { return paused_; }
  // All of a paused machine but its memory.
  void fields(StateVisitor& visitor);
  // Makes sure of what the devices have only begun, before the guest runs, and ends the adding of memory.
  // Throws ConfigError, HostError.
  void settle();

  // The end of a paused machine.
  GuestMemory take_memory() { return std::move(memory_); }

 private:
  template <class Device>
  struct Named {
    DeviceConfig config;  // with its name and, on PCI, its slot
    std::unique_ptr<Device> device;
    std::size_t place = 0;  // among all devices, in the order in which they came
  };
  struct Attached : Named<virtio::Transport> {
    OptionValues options;
  };

  Machine(const VmConfig& config, std::span<const DeviceKind* const> kinds, GuestMemory memory,
          const Log& log);
  std::unique_ptr<IrqPins> create_irqchip(const VmConfig& config, std::span<const DeviceKind* const> kinds);
  void create_vcpus(const VmConfig& config);
  void create_device(const DeviceConfig& device, std::span<const DeviceKind* const> kinds);
  Attached connect(std::unique_ptr<virtio::VirtioDevice> device, const DeviceConfig& config,
                   OptionValues options);
  Attached& named(std::string_view device);  // throws ConfigError
  void load(const VmConfig& config);

  const Log& log_;
  Transport transport_;
  Irqchip irqchip_;
  bool paused_ = false;
  ConsoleHub console_;
  Kvm kvm_;
  GuestMemory memory_;
  EndLatch end_latch_;
  AddressDecoder ports_;
  AddressDecoder mmio_;
  KvmVm vm_;
  std::unique_ptr<IrqPins> pins_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  std::vector<std::function<void()>> checks_;  // of settle
  DeviceMemory device_memory_;
  DeviceContext context_;
  std::optional<pci::PciBus> pci_;
  std::optional<pci::PciHotplug> hotplug_;
  std::size_t devices_made_ = 0;
  std::vector<Named<PlatformDevice>> platform_devices_;
  mutable std::mutex transports_mutex_;  // for device_reports; changed by the owner only
  std::vector<Attached> transports_;
  std::vector<acpi::Aml> nodes_;
  LoadedKernel kernel_;
};

}  // namespace hum
