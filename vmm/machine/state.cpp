// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/state.h"

#include <algorithm>
#include <string>
#include <utility>

#include "vmm/base/errors.h"
#include "vmm/base/state.h"
#include "vmm/kvm/vcpu_state.h"
#include "vmm/kvm/vm_state.h"
#include "vmm/machine/layout.h"
#include "vmm/machine/machine.h"

// Pausing, and the state of a machine as a whole.
namespace hum {
namespace {

GuestMemory checked(const VmConfig& config, GuestMemory&& memory) {
  const std::vector<GuestRange> ranges = layout::ram_ranges(config.memory);
  const auto regions = memory.regions();
  if (!std::equal(ranges.begin(), ranges.end(), regions.begin(), regions.end(),
                  [](const GuestRange& range, const MemoryRegion& region) { return range == region.range; }))
    throw ConfigError("memory", format_size(config.memory), "is not what the machine had that is to go on",
                      "give " + format_size(memory.size()));
  return std::move(memory);
}

template <class Named>
std::string names_of(const std::vector<Named>& devices) {
  std::string all;
  for (const Named& each : devices) all += (all.empty() ? "" : " ") + each.config.name;
  return all;
}

}  // namespace

Machine::Machine(const VmConfig& config, std::span<const DeviceKind* const> kinds, MachineState state,
                 const Log& log)
    : Machine(config, kinds, checked(config, std::move(state.memory)), log) {
  // Interrupts connect only when their local APICs have their state.
  pause();
  restore(*this, state.fields);
}

// The devices go first: what they raise last still arrives.
void Machine::pause() {
  if (std::exchange(paused_, true)) return;
  for (const auto& each : transports_) each.device->pause();
  pins_->hold(true);
}

void Machine::resume() {
  if (!std::exchange(paused_, false)) return;
  pins_->hold(false);
  for (const auto& each : transports_) each.device->resume();
}

void Machine::fields(StateVisitor& visitor) {
  visitor.section("machine", [&] {
    visitor.same("cpus", vcpus_.size());
    visitor.same("memory", memory_.size());
    visitor.same("irqchip", irqchip_ == Irqchip::kernel ? "kernel" : "split");
    visitor.same("transport", transport_ == Transport::pci ? "pci" : "mmio");
    visitor.same("devices", names_of(platform_devices_));
    visitor.same("virtio-devices", names_of(transports_));
  });
  for (const auto& vcpu : vcpus_)
    visitor.section("vcpu", vcpu->id(), [&] { visit_vcpu(*vcpu, kvm_, log_, visitor); });
  visitor.section("kvm", [&] { visit_kvm_vm(vm_, irqchip_ == Irqchip::kernel, visitor); });
  visitor.section("pins", [&] { pins_->fields(visitor); });
  if (pci_) visitor.section("pci", [&] { pci_->fields(visitor); });
  if (hotplug_) visitor.section("pci-hotplug", [&] { hotplug_->fields(visitor); });
  for (const auto& each : platform_devices_)
    visitor.section(each.config.name, [&] { each.device->fields(visitor); });
  for (const auto& each : transports_)
    visitor.section(each.config.name, [&] { each.device->fields(visitor); });
  visitor.section("console-input", [&] { console_.fields(visitor); });
}

}  // namespace hum
