// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/machine.h"

#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <csignal>
#include <fstream>
#include <map>
#include <string>
#include <thread>

#include "vmm/acpi/tables.h"
#include "vmm/base/errors.h"
#include "vmm/base/hex.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/machine/layout.h"
#include "vmm/virtio/mmio_transport.h"
#include "vmm/virtio/pci_transport.h"

namespace hum {
namespace {

constexpr std::uint32_t msr_misc_enable = 0x1a0;
constexpr std::uint64_t misc_enable_fast_strings = 1;
constexpr std::uint32_t msr_mtrr_default_type = 0x2ff;
constexpr std::uint64_t mtrr_enabled_write_back = (1 << 11) | 6;
constexpr std::uint32_t platform_pins = 8;  // the lowest; virtio-mmio devices take those above
// Nobody else sends it. Not a real-time signal: those need room in the user's queue of signals, which may be
// full.
constexpr int default_kick_signal = SIGSTKFLT;
constexpr const char* no_hotplug = "start the VM on PCI, with hotplug";

// Where the administrator lets memory be promised more than once (proc(5), vm.overcommit_memory), so do we.
bool host_overcommits() {
  std::ifstream policy("/proc/sys/vm/overcommit_memory");
  return policy.get() == '1';
}

const VmConfig& checked(const VmConfig& config) {
  const auto pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
  const std::uint64_t host = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (config.memory > host && !host_overcommits())
    throw ConfigError("memory", format_size(config.memory), "is more than the host has",
                      "give at most " + format_size(host >> 20 << 20) + ", or set vm.overcommit_memory to 1");
  constexpr std::uint64_t huge_page = 2 << 20;
  if (config.backing.hugepages && config.memory % huge_page != 0)
    throw ConfigError("memory", format_size(config.memory), "is not a whole number of huge pages",
                      "give a multiple of 2M, or leave --hugepages out");
  if (config.hotplug && config.transport != Transport::pci)
    throw ConfigError("hotplug", "on", "needs PCI", "give transport=pci");
  return config;
}

const DeviceKind* find_kind(std::span<const DeviceKind* const> kinds, std::string_view name) {
  const auto found =
      std::find_if(kinds.begin(), kinds.end(), [&](const DeviceKind* kind) { return kind->name == name; });
  return found == kinds.end() ? nullptr : *found;
}

std::uint32_t count_virtio(const VmConfig& config, std::span<const DeviceKind* const> kinds) {
  return static_cast<std::uint32_t>(
      std::count_if(config.devices.begin(), config.devices.end(), [&](const auto& device) {
        const DeviceKind* const kind = find_kind(kinds, device.kind);
        return kind != nullptr && std::holds_alternative<DeviceKind::VirtioFactory>(kind->create);
      }));
}

// A device that shares guest memory with another process has it shared without being asked.
MemoryBacking backing_for(const VmConfig& config, std::span<const DeviceKind* const> kinds) {
  MemoryBacking backing = config.backing;
  for (const DeviceConfig& device : config.devices) {
    const DeviceKind* const kind = find_kind(kinds, device.kind);
    if (kind != nullptr && kind->needs_shared_memory) backing.shared = true;
  }
  return backing;
}

template <class Named>
bool has_name(const std::vector<Named>& devices, std::string_view name) {
  return std::any_of(devices.begin(), devices.end(),
                     [&](const Named& each) { return each.config.name == name; });
}

// A device without a name becomes "disk0", "disk1": its kind and the lowest number that makes it unique.
template <class Named>
DeviceConfig with_name(DeviceConfig config, const std::vector<Named>& devices) {
  if (!config.name.empty() && has_name(devices, config.name))
    throw ConfigError("device", config.name, "there is one of that name already", "give another name");
  const std::string kind = config.kind;
  for (unsigned number = 0; config.name.empty(); ++number)
    if (std::string name = kind + std::to_string(number); !has_name(devices, name)) config.name = name;
  return config;
}

const DeviceKind& known_kind(std::span<const DeviceKind* const> kinds, const std::string& name) {
  if (const DeviceKind* const kind = find_kind(kinds, name)) return *kind;
  std::string known;
  for (const DeviceKind* each : kinds) known += (known.empty() ? "" : ", ") + std::string(each->name);
  throw ConfigError("device", name, "unknown kind of device", "known are " + known);
}

// What errors call a device.
const std::string& title_of(const DeviceConfig& device) {
  return device.name.empty() ? device.kind : device.name;
}

// What a user has asked for is not optional.
void set_wanted(Vcpu& vcpu, const CpuTemplate::Msr& msr) {
  const std::optional<std::uint64_t> before = vcpu.msr(msr.index);
  if (before && vcpu.set_msr(msr.index, msr.bits.applied_to(*before))) return;
  throw ConfigError("msr", hex(msr.index), before ? "KVM refuses the value" : "this KVM has no such register",
                    "leave it out, or run on another host");
}

Kvm open_kvm(const VmConfig& config) {
  return config.kvm_fd >= 0 ? Kvm(config.kvm_fd) : Kvm();
}

pci::PciLayout pci_layout() {
  return {.ecam = {layout::ecam_begin},
          .mmio32_first = static_cast<std::uint32_t>(layout::pci_window_begin),
          .mmio32_last = static_cast<std::uint32_t>(layout::pci_window_end - 1)};
}

}  // namespace

// Memory slots come before the interrupt controller and that before vCPUs: the other way round costs
// milliseconds (docs/architecture.md, "Start").
Machine::Machine(const VmConfig& config, std::span<const DeviceKind* const> kinds, GuestMemory memory,
                 const Log& log)
    : log_(log),
      transport_(config.transport),
      irqchip_(config.irqchip),
      kvm_(open_kvm(config)),
      memory_(std::move(memory)),
      end_latch_(memory_,
                 [this] {
                   for (const auto& vcpu : vcpus_) vcpu->stop();
                 }),
      vm_(kvm_, log_),
      pins_(create_irqchip(config, kinds)),
      device_memory_(memory_, vm_, layout::device_memory_begin(memory_.size())),
      context_{memory_,        ports_,         mmio_,
               *pins_,         end_latch_,     console_,
               log_,           device_memory_, [this](auto check) { checks_.push_back(std::move(check)); },
               config.services} {
  create_vcpus(config);
  if (transport_ == Transport::pci) pci_.emplace(pci_layout(), ports_, mmio_, vm_);
  if (config.hotplug) hotplug_.emplace(*pci_, ports_, *pins_);
  for (const DeviceConfig& device : config.devices) create_device(device, kinds);
}

Machine::Machine(const VmConfig& config, std::span<const DeviceKind* const> kinds, const Log& log)
    : Machine(config, kinds,
              GuestMemory(layout::ram_ranges(checked(config).memory), backing_for(config, kinds)), log) {
  load(config);
}

std::unique_ptr<IrqPins> Machine::create_irqchip(const VmConfig& config,
                                                 std::span<const DeviceKind* const> kinds) {
  for (const MemoryRegion& region : memory_.regions()) vm_.add(region.range, region.host, false);
  if (config.irqchip == Irqchip::split) {
    vm_.create_split_irqchip();
    std::uint32_t pins = platform_pins;
    if (transport_ == Transport::mmio) pins = std::min(pins + count_virtio(config, kinds), ioapic_pins);
    return std::make_unique<Ioapic>(mmio_, vm_, pins);
  }
  vm_.create_full_irqchip();
  return std::make_unique<KernelIrqPins>(vm_);
}

void Machine::create_vcpus(const VmConfig& config) {
  const int most = kvm_.extension(KVM_CAP_MAX_VCPUS);
  if (most > 0 && config.cpus > static_cast<std::uint32_t>(most))
    throw ConfigError("cpus", std::to_string(config.cpus), "is more than this KVM supports",
                      "give at most " + std::to_string(most));
  const int signal = config.kick_signal != 0 ? config.kick_signal : default_kick_signal;
  for (const std::uint32_t capability : config.cpu_template.capabilities)
    if (kvm_.extension(static_cast<int>(capability)) <= 0)
      throw ConfigError("capability", std::to_string(capability), "this KVM does not have it",
                        "leave it out, or run on another host");
  std::vector<kvm_cpuid_entry2> supported = kvm_.supported_cpuid();
  apply_template(config.cpu_template, supported);
  device_memory_.limit(physical_address_bits(supported));
  const bool tsc_deadline = kvm_.extension(KVM_CAP_TSC_DEADLINE_TIMER) != 0;
  for (std::uint32_t id = 0; id < config.cpus; ++id) {
    Vcpu& vcpu = *vcpus_.emplace_back(std::make_unique<Vcpu>(vm_, id, signal));
    vcpu.set_cpuid(vcpu_cpuid(supported, {config.cpus}, id, tsc_deadline));
    for (const auto& [index, value] : {std::pair(msr_misc_enable, misc_enable_fast_strings),
                                       std::pair(msr_mtrr_default_type, mtrr_enabled_write_back)})
      if (!vcpu.set_msr(index, value)) log_.info("KVM refuses the optional MSR " + std::to_string(index));
    for (const CpuTemplate::Msr& msr : config.cpu_template.msrs) set_wanted(vcpu, msr);
  }
}

void Machine::create_device(const DeviceConfig& device, std::span<const DeviceKind* const> kinds) {
  const DeviceKind& kind = known_kind(kinds, device.kind);
  OptionValues options = OptionValues::parse(title_of(device), kind.options, device.options);
  if (const auto* platform = std::get_if<DeviceKind::PlatformFactory>(&kind.create)) {
    const auto& made = platform_devices_.emplace_back(with_name(device, platform_devices_),
                                                      (*platform)(options, context_), devices_made_++);
    nodes_.push_back(made.device->acpi_node());
  } else {
    auto made = std::get<DeviceKind::VirtioFactory>(kind.create)(options, context_);
    transports_.push_back(connect(std::move(made), device, std::move(options)));
  }
}

Machine::Attached Machine::connect(std::unique_ptr<virtio::VirtioDevice> device, const DeviceConfig& config,
                                   OptionValues options) {
  DeviceConfig own = with_name(config, transports_);
  const virtio::TransportContext context{
      memory_, mmio_, vm_, log_,
      [this, name = own.name](std::string_view reason) { end_latch_.device_broke(name, reason); }};
  if (pci_) {
    auto transport = std::make_unique<virtio::PciTransport>(context, std::move(device), config.kind, vm_);
    own.slot = pci_->add(*transport, config.slot);
    return {{std::move(own), std::move(transport), devices_made_++}, std::move(options)};
  }
  const auto number = static_cast<unsigned>(transports_.size());
  const std::uint64_t base = layout::virtio_mmio_begin + number * layout::virtio_mmio_stride;
  auto transport = std::make_unique<virtio::MmioTransport>(context, std::move(device), config.kind,
                                                           static_cast<std::uint32_t>(base), *pins_);
  nodes_.push_back(transport->acpi_node(number));
  return {{std::move(own), std::move(transport), devices_made_++}, std::move(options)};
}

void Machine::load(const VmConfig& config) {
  acpi::TableOptions tables;
  std::vector<std::uint32_t> apic_ids;
  for (const auto& vcpu : vcpus_) apic_ids.push_back(vcpu->id());
  tables.apic_ids = apic_ids;
  tables.legacy_pic = config.irqchip == Irqchip::kernel;
  for (const auto& each : platform_devices_) each.device->declare(tables.fixed);
  if (pci_) {
    tables.mcfg = {.base = layout::ecam_begin, .first_bus = 0, .last_bus = 0};
    nodes_.push_back(pci_->acpi_node());
  }
  if (hotplug_) nodes_.push_back(hotplug_->acpi_node());
  for (const acpi::Aml& node : nodes_)
    tables.dsdt_terms.insert(tables.dsdt_terms.end(), node.begin(), node.end());
  const acpi::BuiltTables built = acpi::build_tables(acpi::bios_area_begin, tables);
  memory_.write_bytes({acpi::bios_area_begin}, built.bytes);

  BootRequest request = config.boot;
  request.acpi_rsdp = built.rsdp_address;
  request.fresh_memory = true;
  request.want_digest = !config.record.empty();
  kernel_ = load_kernel(memory_, request, layout::memory_map(config.memory, pci_.has_value()));
  vcpus_.front()->set_start(kernel_.entry);
}

void Machine::settle() {
  const std::vector<std::function<void()>> checks = std::exchange(checks_, {});
  for (const auto& check : checks) check();
  device_memory_.close();
}

bool Machine::press_power_button() {
  return std::any_of(platform_devices_.begin(), platform_devices_.end(),
                     [](const auto& each) { return each.device->press_power_button(); });
}

bool Machine::press_ctrl_alt_del() {
  return std::any_of(platform_devices_.begin(), platform_devices_.end(),
                     [](const auto& each) { return each.device->press_ctrl_alt_del(); });
}

Machine::Attached& Machine::named(std::string_view device) {
  std::string known;
  for (Attached& each : transports_) {
    if (each.config.name == device) return each;
    known += (known.empty() ? "there are " : ", ") + each.config.name;
  }
  throw ConfigError("device", std::string(device), "there is none that could be changed",
                    known.empty() ? "this VM has none" : known);
}

void Machine::change(std::string_view device, std::string_view options) {
  Attached& changing = named(device);
  OptionValues changed = changing.options.changed(changing.config.name, options);
  changing.device->apply(changed);
  changing.options = std::move(changed);
}

std::string Machine::attach(const DeviceConfig& device, std::span<const DeviceKind* const> kinds) {
  if (!hotplug_) throw ConfigError("device", device.kind, "cannot come while the VM runs", no_hotplug);
  const DeviceKind& kind = known_kind(kinds, device.kind);
  const auto* const create = std::get_if<DeviceKind::VirtioFactory>(&kind.create);
  if (create == nullptr)
    throw ConfigError("device", device.kind, "is no virtio device", "give it before the start");
  if (kind.needs_shared_memory && memory_.regions().front().fd < 0)
    throw ConfigError("device", device.kind, "shares guest memory, and this machine's is private",
                      "set shared-memory before the start");
  OptionValues options = OptionValues::parse(title_of(device), kind.options, device.options);
  assert(paused_ || !kind.brings_memory);
  checks_.clear();  // of one whose making failed
  if (kind.brings_memory) device_memory_.open();
  std::unique_ptr<virtio::VirtioDevice> model;
  try {
    model = (*create)(options, context_);
  } catch (const std::exception&) {
    device_memory_.close();
    throw;
  }
  settle();
  // Nothing may fail any more once a vCPU can find the device.
  const std::lock_guard lock(transports_mutex_);
  transports_.reserve(transports_.size() + 1);
  const Attached& attached = transports_.emplace_back(connect(std::move(model), device, std::move(options)));
  if (paused_) attached.device->pause();
  hotplug_->tell_inserted(*attached.config.slot);
  return attached.config.name;
}

bool Machine::in_use(std::string_view device) {
  if (!hotplug_) throw ConfigError("device", std::string(device), "cannot leave this machine", no_hotplug);
  return named(device).device->in_use();
}

void Machine::ask_to_let_go(std::string_view device) {
  hotplug_->ask_to_eject(*named(device).config.slot);
}

std::vector<std::string> Machine::take_let_go() {
  std::vector<std::string> names;
  const std::uint32_t slots = hotplug_ ? hotplug_->take_ejected() : 0;
  for (const Attached& each : transports_)
    if ((slots >> *each.config.slot & 1) != 0) names.push_back(each.config.name);
  return names;
}

void Machine::remove(std::string_view device) {
  assert(paused_);
  const Attached& leaving = named(device);
  const unsigned slot = *leaving.config.slot;
  pci_->remove(slot);
  hotplug_->tell_removed(slot);
  const std::lock_guard lock(transports_mutex_);
  std::erase_if(transports_, [&](const Attached& each) { return &each == &leaving; });
}

void Machine::request(std::string_view device, std::string_view verb) {
  named(device).device->request(verb);
}

std::vector<virtio::DeviceReport> Machine::device_reports() const {
  const std::lock_guard lock(transports_mutex_);
  std::vector<virtio::DeviceReport> reports;
  for (const auto& each : transports_) {
    reports.push_back(each.device->report());
    reports.back().own_name = each.config.name;
  }
  return reports;
}

std::vector<DeviceConfig> Machine::device_configs() const {
  std::map<std::size_t, DeviceConfig> by_place;
  for (const auto& each : platform_devices_) by_place.emplace(each.place, each.config);
  for (const Attached& each : transports_)
    by_place.emplace(each.place, each.config).first->second.options = each.options.written();
  std::vector<DeviceConfig> configs;
  for (auto& [place, config] : by_place) configs.push_back(std::move(config));
  return configs;
}

std::vector<DeviceOptions> Machine::device_options() const {
  std::vector<DeviceOptions> all;
  for (const auto& each : transports_) all.push_back({each.config.name, each.config.kind, each.options});
  return all;
}

void Machine::stop_devices(int give_up_fd) {
  for (const auto& each : transports_) each.device->flush(give_up_fd);
  for (const auto& each : transports_) each.device->stop();
}

}  // namespace hum
