// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/microvm_config.h"

#include <fcntl.h>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <nlohmann/json.hpp>
#include <tuple>

#include "devices/mem/mem_device.h"
#include "devices/mmds/mmds_backend.h"
#include "devices/net/mac_address.h"
#include "devices/registry.h"
#include "tools/hum-vmm/cpu_config.h"
#include "tools/hum-vmm/own_device.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr std::size_t longest_serial_number = 20;
constexpr std::string_view usual_mmds_address = "169.254.169.254";
// For a client that gives none: no console, and an end where the kernel panics or restarts.
constexpr std::string_view usual_command_line = "reboot=k panic=1 8250.nr_uarts=0";

std::string text_of(const json& object, const char* name) {
  return object.contains(name) ? object[name].get<std::string>() : std::string();
}

bool flag_of(const json& object, const char* name) {
  return object.contains(name) && object[name].get<bool>();
}

void check_id(const Section& section, const std::string& id) {
  const bool good = !id.empty() && std::all_of(id.begin(), id.end(), [](unsigned char each) {
    return std::isalnum(each) != 0 || each == '_';
  });
  if (!good)
    throw ConfigError(std::string(section.id_field), id, "not accepted", "give letters, digits and '_'");
}

std::string_view kind_of(const Section& section, const json& element) {
  if (&section == &sections::drives) return element.contains("socket") ? "vhost-user-disk" : "disk";
  if (&section == &sections::pmem) return "pmem";
  if (&section == &sections::network_interfaces) return "net";
  if (&section == &sections::vsock) return "vsock";
  if (section.name == sections::balloon.name) return "balloon";
  if (&section == &sections::serial) return "serial";
  if (&section == &sections::memory_hotplug) return "mem";
  return "rng";
}

// The device's own options.
std::string options_of(const Section& section, const json& element) {
  const std::string_view kind = kind_of(section, element);
  if (kind == "vhost-user-disk") return option_text(vhost_user_drive_fields(), element);
  std::string options = option_text(section.fields, element);
  if (kind == "disk") options += ",id=" + text_of(element, "drive_id").substr(0, longest_serial_number);
  return options;
}

// "drives/rootfs", "balloon": as the API's paths name it.
std::string name_of(const Section& section, const json& element) {
  if (section.id_field.empty()) return std::string(section.name);
  if (&section == &sections::own_devices) return text_of(element, "name");
  return std::string(section.name) + "/" + text_of(element, std::string(section.id_field).c_str());
}

// Errors of the device's own options come at once, and not at the start.
void check_options(const Section& section, const json& element) {
  for (const DeviceKind* kind : all_devices())
    if (kind->name == kind_of(section, element)) {
      try {
        OptionValues::parse(section.path, kind->options, options_of(section, element));
      } catch (const ConfigError& error) {
        throw in_fields(section.path, section.fields, error);
      }
    }
}

void check_file(const std::string& path, int access) {
  open_file(path, access | O_NONBLOCK | O_NOCTTY, 0, "give a file that can be opened");
}

// The sizes that are not given, and an error at once where they do not go together.
json with_memory_sizes(const json& checked) {
  json sizes = {{"slot_size_mib", 128}, {"block_size_mib", 2}};
  sizes.update(checked);
  check_options(sections::memory_hotplug, sizes);
  const auto bytes = [&](const char* name) { return sizes[name].get<std::uint64_t>() << 20; };
  const Section& section = sections::memory_hotplug;
  try {
    MemDevice::check_layout("mem", {.total = bytes("total_size_mib"),
                                    .slot_size = bytes("slot_size_mib"),
                                    .block_size = bytes("block_size_mib")});
  } catch (const ConfigError& error) {
    throw in_fields(section.path, section.fields, error);
  }
  return sizes;
}

// A bucket is replaced as a whole, one that is not named stays.
void note_change_of(json& element, const json& change) {
  for (const auto& [name, value] : change.items()) {
    if (value.is_object())
      element[name].update(value);
    else
      element[name] = value;
  }
}

}  // namespace

MicrovmConfig::MicrovmConfig(Transport transport)
    : transport_(transport), document_(std::make_unique<json>(json::object())) {
  for (const Section* section : sections::all())
    (*document_)[std::string(section->name)] = section->id_field.empty() ? json() : json::array();
  (*document_)["machine-config"] = {{"vcpu_count", 1},
                                    {"mem_size_mib", 128},
                                    {"smt", false},
                                    {"track_dirty_pages", false},
                                    {"huge_pages", "None"}};
}

MicrovmConfig::~MicrovmConfig() = default;

json MicrovmConfig::all() const {
  json document = *document_;
  document.erase(std::string(sections::serial.name));
  // Clients of the dialect alone do not know it.
  if (get(sections::own_devices).empty()) document.erase(std::string(sections::own_devices.name));
  return document;
}

const json& MicrovmConfig::get(const Section& section) const {
  return (*document_)[std::string(section.name)];
}

void MicrovmConfig::put(const Section& section, const json& checked) {
  json& kept = (*document_)[std::string(section.name)];
  if (&section == &sections::boot_source) {
    check_file(text_of(checked, "kernel_image_path"), O_RDONLY);
    if (checked.contains("initrd_path")) check_file(text_of(checked, "initrd_path"), O_RDONLY);
  }
  if (&section == &sections::machine_config) {
    json next = MicrovmConfig(transport_).get(section);
    next.update(checked);
    return patch(section, next);
  }
  if (section.id_field.empty()) {
    if (&section == &sections::vsock || &section == &sections::balloon) check_options(section, checked);
    if (&section == &sections::mmds_config) check_mmds(checked);
    if (&section == &sections::cpu_config) cpu_template_of(checked);
    if (&section == &sections::memory_hotplug) {
      kept = with_memory_sizes(checked);
      return;
    }
    // Of the log stays what is not named, but for the level.
    if (&section == &sections::logger && !kept.is_null()) {
      kept.erase("level");
      kept.update(checked);
      return;
    }
    kept = checked;
    if (&section == &sections::balloon)
      for (const auto& [name, value] : {std::pair("stats_polling_interval_s", json(0)),
                                        {"free_page_hinting", json(false)},
                                        {"free_page_reporting", json(false)}})
        if (!kept.contains(name)) kept[name] = value;
    return;
  }
  const std::string id_field(section.id_field);
  json element = checked;
  if (&section == &sections::own_devices)
    own_device(element);
  else
    check_id(section, checked[id_field].get<std::string>());
  if (&section == &sections::drives) {
    check_drive(element);
    if (!element.contains("socket"))
      for (const auto& [name, value] :
           {std::pair("is_read_only", json(false)), {"cache_type", "Unsafe"}, {"io_engine", "Sync"}})
        if (!element.contains(name)) element[name] = value;
  } else if (&section == &sections::pmem) {
    for (const char* const name : {"root_device", "read_only"})
      if (!element.contains(name)) element[name] = false;
    check_pmem(element);
  } else if (&section == &sections::network_interfaces) {
    check_network(element);
  }
  if (&section != &sections::own_devices) check_options(section, element);
  const auto same = std::find_if(kept.begin(), kept.end(),
                                 [&](const json& each) { return each[id_field] == element[id_field]; });
  if (same != kept.end())
    *same = element;
  else
    kept.push_back(element);
  if (&section != &sections::drives) return;
  // The root drive is the guest's first disk.
  const auto root = std::find_if(kept.begin(), kept.end(),
                                 [](const json& each) { return flag_of(each, "is_root_device"); });
  if (root != kept.end()) std::rotate(kept.begin(), root, std::next(root));
}

void MicrovmConfig::patch(const Section& section, const json& checked) {
  if (checked.empty()) throw ConfigError(std::string(section.path), "", "nothing to change is given");
  if (const std::string name = text_of(checked, "cpu_template"); !name.empty() && name != "None")
    throw ConfigError("machine-config.cpu_template", name, "is not supported", "give None, or leave it out");
  json next = get(section);
  next.update(checked);
  next.erase("cpu_template");
  if (const auto count = next["vcpu_count"].get<std::uint64_t>();
      flag_of(next, "smt") && count > 1 && count % 2 != 0)
    throw ConfigError("machine-config.vcpu_count", std::to_string(count), "with smt it is 1 or even",
                      "give such a number, or smt false");
  if (const auto memory = next["mem_size_mib"].get<std::uint64_t>();
      next["huge_pages"] == "2M" && memory % 2 != 0)
    throw ConfigError("machine-config.mem_size_mib", std::to_string(memory), "with pages of 2M it is even",
                      "give such a number, or huge_pages None");
  (*document_)[std::string(section.name)] = std::move(next);
}

void MicrovmConfig::note_change(const Section& section, const json& checked) {
  if (&section == &sections::memory_hotplug) return;  // what is requested is no part of it
  json& kept = (*document_)[std::string(section.name)];
  if (section.id_field.empty()) return note_change_of(kept, checked);
  const std::string id_field(section.id_field);
  for (json& each : kept)
    if (each[id_field] == checked[id_field]) note_change_of(each, checked);
}

void MicrovmConfig::check_drive(const json& drive) const {
  const bool is_served = drive.contains("socket");
  if (is_served)
    for (const char* const name : {"path_on_host", "is_read_only", "rate_limiter", "io_engine"})
      if (drive.contains(name))
        throw ConfigError(std::string("drives.") + name, "", "goes not with a socket",
                          "leave one of both out");
  if (!is_served) {
    if (!drive.contains("path_on_host"))
      throw ConfigError("drives.path_on_host", "", "missing field", "give it, or a socket");
    check_file(text_of(drive, "path_on_host"), flag_of(drive, "is_read_only") ? O_RDONLY : O_RDWR);
  }
  if (flag_of(drive, "is_root_device")) check_root(sections::drives, "is_root_device", drive);
}

void MicrovmConfig::check_pmem(const json& pmem) const {
  check_file(text_of(pmem, "path_on_host"), flag_of(pmem, "read_only") ? O_RDONLY : O_RDWR);
  if (flag_of(pmem, "root_device")) check_root(sections::pmem, "root_device", pmem);
}

void MicrovmConfig::check_root(const Section& section, std::string_view field, const json& element) const {
  for (const auto& [others, flag, word] : {std::tuple(&sections::drives, "is_root_device", "drive"),
                                           std::tuple(&sections::pmem, "root_device", "pmem")})
    for (const json& each : get(*others)) {
      const std::string& id = each[std::string(others->id_field)].get_ref<const std::string&>();
      if (flag_of(each, flag) && (others != &section || element[std::string(section.id_field)] != id))
        throw ConfigError(std::string(section.path) + "." + std::string(field), "true",
                          std::string(word) + " '" + id + "' is the root device already",
                          "give false, or change that one");
    }
}

void MicrovmConfig::check_network(const json& interface) const {
  if (!interface.contains("guest_mac")) return;
  const auto address_of = [](const json& of) {
    return parse_mac_address("network-interfaces.guest_mac", text_of(of, "guest_mac"));
  };
  const MacAddress own = address_of(interface);
  for (const json& each : get(sections::network_interfaces))
    if (each["iface_id"] != interface["iface_id"] && each.contains("guest_mac") && address_of(each) == own)
      throw ConfigError("network-interfaces.guest_mac", text_of(interface, "guest_mac"),
                        "interface '" + text_of(each, "iface_id") + "' has it", "give each its own");
}

void MicrovmConfig::check_mmds(const json& mmds) const {
  if (mmds.contains("ipv4_address"))
    parse_mmds_address("mmds/config.ipv4_address", text_of(mmds, "ipv4_address"));
  for (const json& id : mmds.value("network_interfaces", json::array()))
    if (!device(sections::network_interfaces, id.get<std::string>()))
      throw ConfigError("mmds/config.network_interfaces", id.get<std::string>(), "there is no such interface",
                        "PUT /network-interfaces/" + id.get<std::string>() + " first");
}

// Empty for one without the metadata.
std::string MicrovmConfig::mmds_option(const json& interface) const {
  const json& mmds = get(sections::mmds_config);
  if (mmds.is_null()) return {};
  const json served = mmds.value("network_interfaces", json::array());
  if (std::find(served.begin(), served.end(), interface["iface_id"]) == served.end()) return {};
  return ",mmds=" + mmds.value("ipv4_address", std::string(usual_mmds_address));
}

std::string MicrovmConfig::command_line() const {
  const json& source = get(sections::boot_source);
  std::string line =
      source.contains("boot_args") ? text_of(source, "boot_args") : std::string(usual_command_line);
  // Nothing is on a bus, so the guest need not look.
  if (transport_ == Transport::mmio && line.find("pci=off") == std::string::npos)
    line += (line.empty() ? "" : " ") + std::string("pci=off");
  for (const json& drive : get(sections::drives)) {
    if (!flag_of(drive, "is_root_device")) continue;
    const std::string partition = text_of(drive, "partuuid");
    line += (line.empty() ? "" : " ") + std::string("root=") +
            (partition.empty() ? "/dev/vda" : "PARTUUID=" + partition) +
            (flag_of(drive, "is_read_only") ? " ro" : " rw");
  }
  unsigned number = 0;
  for (const json& pmem : get(sections::pmem)) {
    const std::string device = "/dev/pmem" + std::to_string(number++);
    if (flag_of(pmem, "root_device"))
      line += (line.empty() ? "root=" : " root=") + device + (flag_of(pmem, "read_only") ? " ro" : " rw");
  }
  return line;
}

VmConfig MicrovmConfig::vm_config() const {
  const json& source = get(sections::boot_source);
  if (source.is_null())
    throw ConfigError("boot-source", "", "there is no kernel to start", "PUT /boot-source first");
  VmConfig config;
  config.transport = transport_;
  config.hotplug = transport_ == Transport::pci;
  const json& machine = get(sections::machine_config);
  config.set("cpus", std::to_string(machine["vcpu_count"].get<std::uint64_t>()));
  config.set("memory", std::to_string(machine["mem_size_mib"].get<std::uint64_t>()) + "M");
  config.set("hugepages", machine["huge_pages"] == "2M" ? "on" : "off");
  if (const json& cpu = get(sections::cpu_config); !cpu.is_null()) config.cpu_template = cpu_template_of(cpu);
  config.boot.kernel_path = text_of(source, "kernel_image_path");
  config.boot.initrd_path = text_of(source, "initrd_path");
  config.boot.command_line = command_line();
  config.devices = standard_devices();
  add_device(config.devices, {"keyboard", ""});
  if (const json& serial = get(sections::serial); !serial.is_null())
    for (DeviceConfig& each : config.devices)
      if (each.kind == "serial") each = device_of(sections::serial, serial);
  for (const Section* section : {&sections::drives, &sections::pmem, &sections::network_interfaces})
    for (const json& each : get(*section)) config.devices.push_back(device_of(*section, each));
  for (const Section* section :
       {&sections::vsock, &sections::balloon, &sections::entropy, &sections::memory_hotplug})
    if (!get(*section).is_null()) config.devices.push_back(device_of(*section, get(*section)));
  for (const json& each : get(sections::own_devices)) add_own_device(config.devices, own_device(each));
  for (const DeviceConfig& device : config.devices)
    if (device.kind == "vhost-user-disk") config.backing.shared = true;
  return config;
}

DeviceConfig MicrovmConfig::device_of(const Section& section, const json& element) const {
  if (&section == &sections::own_devices) return own_device(element);
  DeviceConfig device{std::string(kind_of(section, element)), options_of(section, element),
                      name_of(section, element)};
  if (&section == &sections::network_interfaces) device.options += mmds_option(element);
  return device;
}

std::optional<DeviceConfig> MicrovmConfig::device(const Section& section, std::string_view id) const {
  const json& kept = get(section);
  if (section.id_field.empty())
    return kept.is_null() ? std::nullopt : std::optional(device_of(section, kept));
  for (const json& each : kept)
    if (each[std::string(section.id_field)] == id) return device_of(section, each);
  return {};
}

bool MicrovmConfig::is_root(std::string_view device_name) const {
  const auto has_root = [&](const Section& section, const char* flag) {
    const json& kept = get(section);
    return std::any_of(kept.begin(), kept.end(), [&](const json& each) {
      return flag_of(each, flag) && name_of(section, each) == device_name;
    });
  };
  return has_root(sections::drives, "is_root_device") || has_root(sections::pmem, "root_device");
}

void MicrovmConfig::remove(std::string_view device_name) {
  for (const Section* section :
       {&sections::drives, &sections::pmem, &sections::network_interfaces, &sections::own_devices})
    std::erase_if((*document_)[std::string(section->name)].get_ref<json::array_t&>(),
                  [&](const json& each) { return name_of(*section, each) == device_name; });
  // The metadata is served at interfaces that there are.
  json& mmds = (*document_)[std::string(sections::mmds_config.name)];
  if (mmds.is_null() || !mmds.contains("network_interfaces")) return;
  std::erase_if(mmds["network_interfaces"].get_ref<json::array_t&>(), [&](const json& id) {
    return name_of(sections::network_interfaces, {{"iface_id", id}}) == device_name;
  });
}

ConfigError in_dialect(const ConfigError& error) {
  // A device is called by its name, "drives/rootfs", and one that has none by its kind.
  const std::string device = error.key().substr(0, error.key().rfind('.'));
  const std::string_view name = std::string_view(device).substr(0, device.find('/'));
  for (const Section* section :
       {&sections::drives, &sections::network_interfaces, &sections::vsock, &sections::entropy,
        &sections::balloon, &sections::pmem, &sections::memory_hotplug, &sections::serial}) {
    if (section->name != name) continue;
    const bool is_socket = section == &sections::drives && error.key().ends_with(".socket");
    return in_fields(section->path, is_socket ? vhost_user_drive_fields() : section->fields, error);
  }
  return error;
}

}  // namespace hum
