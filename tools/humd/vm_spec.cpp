// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/vm_spec.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "devices/net/published_port.h"
#include "tools/hum-vmm/fields.h"
#include "tools/humd/body_table.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;
using enum FieldType;

constexpr unsigned longest_time = 10 * 366 * 86400;
constexpr std::size_t most_devices = 64;
constexpr std::size_t most_networks = 8;
constexpr std::size_t most_labels = 64;

// Whatever the key says is put into the place of that name in a table for both: the daemon's own fields.
constexpr Field spec_fields[] = {
    {.name = "name", .required = true},
    {.name = "project"},
    {.name = "labels", .type = texts_by_name},
    {.name = "cpus", .type = integer, .minimum = 1, .maximum = 32},
    {.name = "memory_mib", .type = integer, .minimum = 2, .maximum = 1U << 24U},
    {.name = "image"},
    {.name = "disk_mib", .type = integer, .minimum = 1},
    {.name = "kernel"},
    {.name = "initrd"},
    {.name = "cmdline"},
    {.name = "volumes", .type = texts},
    {.name = "networks", .type = objects},
    {.name = "devices", .type = objects},
    {.name = "limits", .type = values},
    {.name = "restart", .type = choice, .choices = "no|on-failure|always"},
    {.name = "most_restarts", .type = integer, .minimum = 1},
    {.name = "autostart", .type = boolean},
    {.name = "start_order", .type = integer, .maximum = 1'000'000},
    {.name = "stop_timeout_s", .type = integer, .maximum = 86400},
    {.name = "lifetime_s", .type = integer, .minimum = 1, .maximum = longest_time},
};

// A change of any other field counts from the next start on.
constexpr std::string_view live_fields[] = {"name",           "project",       "labels",    "limits",
                                            "restart",        "most_restarts", "autostart", "start_order",
                                            "stop_timeout_s", "lifetime_s"};

constexpr Field device_fields[] = {
    {.name = "name", .required = true},
    {.name = "kind", .required = true},
    {.name = "options", .type = values},  // the VMM's to check
};

constexpr Field network_fields[] = {
    {.name = "network", .required = true},
    {.name = "ports", .type = texts},
};

// Of the process, for control groups. What a limit is by the kernel's names: vm_cgroups.cpp.
constexpr Field limit_fields[] = {
    {.name = "cpu_percent", .type = integer, .minimum = 1, .maximum = 100'000},
    {.name = "cpu_weight", .type = integer, .minimum = 1, .maximum = 10'000},
    {.name = "memory_mib", .type = integer, .minimum = 1, .maximum = 1U << 24U},
    {.name = "pids", .type = integer, .minimum = 1, .maximum = 1U << 22U},
    {.name = "read_mib_s", .type = integer, .minimum = 1},
    {.name = "write_mib_s", .type = integer, .minimum = 1},
    {.name = "read_ops", .type = integer, .minimum = 1},
    {.name = "write_ops", .type = integer, .minimum = 1},
};
// What a VMM needs besides its guest's memory, and its threads besides the guest's processors.
constexpr std::uint64_t vmm_memory_mib = 16;
constexpr std::uint64_t vmm_threads = 16;

json with_defaults(json fields) {
  static const json defaults = {
      {"project", "default"}, {"cpus", 1},
      {"memory_mib", 256},    {"cmdline", "console=ttyS0 panic=-1 reboot=panic_warm quiet"},
      {"restart", "no"},      {"autostart", false},
      {"start_order", 0},     {"stop_timeout_s", 10}};
  for (const auto& [key, value] : defaults.items())
    if (!fields.contains(key)) fields[key] = value;
  return fields;
}

void check_path(const json& fields, const char* key) {
  if (!fields.contains(key)) return;
  const auto path = fields[key].get<std::string>();
  if (!path.starts_with('/'))
    throw ConfigError(key, path, "no absolute path",
                      "give a path from the root, for the daemon has a folder of its own");
}

// A VM's disks and interfaces stand in one list in the end, so all of them are few enough for it.
void check_volumes(const json& fields) {
  if (!fields.contains("volumes")) return;
  std::set<std::string> names;
  for (const json& each : fields["volumes"]) {
    const auto name = each.get<std::string>();
    check_name("volumes", name);
    if (!names.insert(name).second) throw ConfigError("volumes", name, "is there twice");
  }
  if (names.size() > most_devices)
    throw ConfigError("volumes", "", "more than " + std::to_string(most_devices));
}

void check_networks(json& fields) {
  if (!fields.contains("networks")) return;
  std::set<std::string> names;
  for (json& each : fields["networks"]) {
    each = checked_fields("networks", network_fields, each);
    const auto name = each["network"].get<std::string>();
    check_name("networks.network", name);
    if (!names.insert(name).second) throw ConfigError("networks.network", name, "is there twice");
    if (!each.contains("ports")) continue;
    std::string ports;
    for (const json& port : each["ports"]) ports += (ports.empty() ? "" : "+") + port.get<std::string>();
    if (!ports.empty()) parse_published_ports("networks.ports", ports);
  }
  if (names.size() > most_networks)
    throw ConfigError("networks", "", "more than " + std::to_string(most_networks));
}

// A limit that the VM cannot live with would end it.
void check_limits(json& fields) {
  if (!fields.contains("limits")) return;
  json& limits = fields["limits"] = checked_fields("limits", limit_fields, fields["limits"]);
  const auto at_least = [&](const char* key, std::uint64_t least, const std::string& what) {
    if (!limits.contains(key) || limits[key].get<std::uint64_t>() >= least) return;
    throw ConfigError(std::string("limits.") + key, limits[key].dump(), "less than the VM needs",
                      "give " + std::to_string(least) + " at least: " + what);
  };
  at_least("memory_mib", fields["memory_mib"].get<std::uint64_t>() + vmm_memory_mib,
           "the guest's memory and " + std::to_string(vmm_memory_mib) + " for its process");
  at_least("pids", fields["cpus"].get<std::uint64_t>() + vmm_threads,
           "a thread for each processor and " + std::to_string(vmm_threads) + " for the process");
}

void check(json& fields) {
  check_name("name", fields["name"].get<std::string>());
  if (fields.contains("project")) check_name("project", fields["project"].get<std::string>());
  if (!fields.contains("kernel") && !fields.contains("image"))
    throw ConfigError("kernel", "", "missing", "give a kernel, or an image that has one");
  if (fields.contains("image")) check_name("image", fields["image"].get<std::string>());
  if (fields.contains("disk_mib") && !fields.contains("image"))
    throw ConfigError("disk_mib", "", "there is no image whose disk it could be the size of",
                      "give an image, or make a volume");
  check_limits(fields);
  check_volumes(fields);
  check_networks(fields);
  check_path(fields, "kernel");
  check_path(fields, "initrd");
  if (fields.contains("labels") && fields["labels"].size() > most_labels)
    throw ConfigError("labels", "", "more than " + std::to_string(most_labels));
  if (!fields.contains("devices")) return;
  if (fields["devices"].size() > most_devices)
    throw ConfigError("devices", "", "more than " + std::to_string(most_devices));
  std::set<std::string> names;
  for (json& device : fields["devices"]) {
    device = checked_fields("devices", device_fields, device);
    const auto name = device["name"].get<std::string>();
    check_name("devices.name", name);
    if (!names.insert(name).second) throw ConfigError("devices.name", name, "two devices have this name");
  }
}

}  // namespace

std::vector<BodyTable> vm_tables() {
  return {{"VmSpec", spec_fields},
          {"VmNetwork", network_fields},
          {"VmDevice", device_fields},
          {"VmLimits", limit_fields}};
}

VmSpec::VmSpec(const nlohmann::json& given) : fields_(std::make_unique<nlohmann::json>()) {
  *fields_ = with_defaults(checked_fields("vm", spec_fields, given));
  check(*fields_);
}

VmSpec VmSpec::stored(const std::string& text) {
  return VmSpec(json::parse(text));
}

VmSpec::VmSpec(const VmSpec& other) : fields_(std::make_unique<nlohmann::json>(*other.fields_)) {}
VmSpec& VmSpec::operator=(const VmSpec& other) {
  *fields_ = *other.fields_;
  return *this;
}
VmSpec::VmSpec(VmSpec&&) noexcept = default;
VmSpec& VmSpec::operator=(VmSpec&&) noexcept = default;
VmSpec::~VmSpec() = default;

VmSpec VmSpec::with(const nlohmann::json& changes) const {
  if (!changes.is_object()) throw ConfigError("vm", "", "no object", "give the fields to change");
  nlohmann::json merged = *fields_;
  for (const auto& [key, value] : changes.items()) merged[key] = value;  // null is as if it were not there
  return VmSpec(merged);
}

std::vector<std::string> VmSpec::needs_restart(const VmSpec& other) const {
  std::vector<std::string> found;
  for (const Field& field : spec_fields) {
    const std::string name(field.name);
    if (std::find(std::begin(live_fields), std::end(live_fields), field.name) != std::end(live_fields))
      continue;
    const bool ours = fields_->contains(name);
    const bool theirs = other.fields_->contains(name);
    if (ours != theirs || (ours && (*fields_)[name] != (*other.fields_)[name])) found.push_back(name);
  }
  return found;
}

std::string VmSpec::text() const {
  return fields_->dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string VmSpec::name() const {
  return (*fields_)["name"];
}

std::string VmSpec::project() const {
  return (*fields_)["project"];
}

std::optional<std::string> VmSpec::image() const {
  if (!fields_->contains("image")) return {};
  return (*fields_)["image"].get<std::string>();
}

std::optional<std::uint64_t> VmSpec::disk_size() const {
  if (!fields_->contains("disk_mib")) return {};
  return (*fields_)["disk_mib"].get<std::uint64_t>() << 20U;
}

std::vector<std::string> VmSpec::volumes() const {
  if (!fields_->contains("volumes")) return {};
  return (*fields_)["volumes"].get<std::vector<std::string>>();
}

std::vector<VmSpec::NetworkWish> VmSpec::networks() const {
  std::vector<NetworkWish> found;
  if (!fields_->contains("networks")) return found;
  for (const nlohmann::json& each : (*fields_)["networks"]) {
    NetworkWish wish{.network = each["network"], .ports = {}};
    if (each.contains("ports"))
      for (const nlohmann::json& port : each["ports"])
        wish.ports += (wish.ports.empty() ? "" : "+") + port.get<std::string>();
    found.push_back(std::move(wish));
  }
  return found;
}

VmLimits VmSpec::limits() const {
  if (!fields_->contains("limits")) return {};
  return (*fields_)["limits"].get<VmLimits>();
}

std::uint32_t VmSpec::cpus() const {
  return (*fields_)["cpus"];
}

std::uint32_t VmSpec::memory_mib() const {
  return (*fields_)["memory_mib"];
}

RestartPolicy VmSpec::restart() const {
  const std::string word = (*fields_)["restart"];
  if (word == "always") return RestartPolicy::always;
  return word == "on-failure" ? RestartPolicy::on_failure : RestartPolicy::no;
}

std::optional<unsigned> VmSpec::most_restarts() const {
  if (!fields_->contains("most_restarts")) return {};
  return (*fields_)["most_restarts"].get<unsigned>();
}

bool VmSpec::autostart() const {
  return (*fields_)["autostart"];
}

unsigned VmSpec::start_order() const {
  return (*fields_)["start_order"];
}

std::chrono::seconds VmSpec::stop_timeout() const {
  return std::chrono::seconds((*fields_)["stop_timeout_s"].get<unsigned>());
}

std::optional<std::chrono::seconds> VmSpec::lifetime() const {
  if (!fields_->contains("lifetime_s")) return {};
  return std::chrono::seconds((*fields_)["lifetime_s"].get<unsigned>());
}

}  // namespace hum
