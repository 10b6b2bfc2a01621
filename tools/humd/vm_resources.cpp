// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/vm_resources.h"

#include <unistd.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "tools/humd/api_error.h"
#include "tools/humd/manager.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

// A ready one of that name that the user may have.
template <typename Table>
auto ready_object(Manager& manager, Table& table, const char* type, const std::string& name, uid_t user) {
  auto row = table.find(std::string_view(name));
  if (!row || !manager.may(user, row->owner))
    throw ApiError(404, std::string(type) + "-not-found",
                   std::string("there is no ") + type + " '" + name + "'");
  if (row->state != ObjectState::ready)
    throw ApiError(409, std::string(type) + "-not-ready",
                   std::string("the ") + type + " '" + name + "' is " +
                       (row->state == ObjectState::creating ? "being made" : "being deleted") +
                       "; wait for its operation");
  return std::move(*row);
}

json disk_device(const std::string& name, const Volume& volume) {
  json options = {{"path", volume.path}, {"format", volume.format == ImageFormat::qcow2 ? "qcow2" : "raw"}};
  if (!volume.image.empty()) options["backing"] = "any";
  return {{"name", name}, {"kind", "disk"}, {"options", options}};
}

json disk_device(Manager& manager, const std::string& name, const VolumeRow& row) {
  return disk_device(name, {.path = manager.volume_files().path(row.id, row.format),
                            .format = row.format,
                            .size = row.size,
                            .image = row.digest});
}

json net_device(const std::string& name, json options) {
  return {{"name", name}, {"kind", "net"}, {"options", std::move(options)}};
}

}  // namespace

ImageRow ready_image(Manager& manager, const std::string& name, uid_t user) {
  return ready_object(manager, manager.images(), "image", name, user);
}

VolumeRow ready_volume(Manager& manager, const std::string& name, uid_t user) {
  return ready_object(manager, manager.volumes(), "volume", name, user);
}

void expect_no_runner(Manager& manager, const VolumeRow& volume) {
  for (const std::string& name : manager.volumes().users(volume.id))
    if (const auto vm = manager.vms().find(name); vm && vm->state != VmState::stopped)
      throw ApiError(409, "volume-in-use",
                     "the VM '" + name + "' runs on the volume '" + volume.name + "'; stop it first");
}

void expect_idle_volumes(Manager& manager, const VmSpec& spec) {
  for (const std::string& name : spec.volumes())
    if (const auto row = manager.volumes().find(std::string_view(name)))
      manager.expect_idle({ObjectType::volume, row->id}, name);
}

std::string content_for(Manager& manager, const VmSpec& spec, uid_t user) {
  if (!spec.image()) return {};
  const ImageRow row = ready_image(manager, *spec.image(), user);
  const Image image = manager.image_files().look(row.digest);
  if (!spec.json().contains("kernel") && image.part("kernel") == nullptr)
    throw ConfigError("kernel", "", "missing, and the image '" + row.name + "' has none", "give one");
  if (spec.disk_size() && image.part("disk") == nullptr)
    throw ConfigError("disk_mib", std::to_string(*spec.disk_size() >> 20U),
                      "the image '" + row.name + "' has no disk", "drop it, or make a volume");
  if (spec.disk_size() && *spec.disk_size() < image.disk_size)
    throw ConfigError("disk_mib", std::to_string(*spec.disk_size() >> 20U),
                      "the disk of the image '" + row.name + "' is larger",
                      "give at least " + std::to_string((image.disk_size + (1U << 20U) - 1) >> 20U));
  return row.digest;
}

void give_own_disk(Manager& manager, std::int64_t vm, const VmSpec& spec, uid_t user,
                   const std::string& content) {
  if (content.empty() || manager.image_files().look(content).part("disk") == nullptr) return;
  manager.volumes().insert({.owner = user,
                            .format = ImageFormat::qcow2,
                            .size = spec.disk_size().value_or(0),
                            .digest = content,
                            .vm = vm});
}

void bind_resources(Manager& manager, std::int64_t vm, const VmSpec& spec, uid_t user) {
  std::vector<std::int64_t> volumes;
  for (const std::string& name : spec.volumes()) volumes.push_back(ready_volume(manager, name, user).id);
  manager.volumes().set_uses(vm, volumes);
  std::vector<NetworkTable::Place> places;
  for (const VmSpec::NetworkWish& wish : spec.networks())
    if (wish.network != user_network)
      places.push_back(
          {.network = ready_object(manager, manager.networks(), "network", wish.network, user).id(),
           .ports = wish.ports});
  manager.networks().set_places(vm, places);
}

void release_resources(Manager& manager, std::int64_t vm) {
  manager.volumes().set_uses(vm, {});
  manager.networks().set_places(vm, {});
}

json vmm_config(Manager& manager, const VmRow& vm) {
  const VmSpec spec = vm.spec();
  const json& fields = spec.json();
  json boot = {{"boot_args", fields["cmdline"]}};
  for (const auto& [field, part, key] :
       {std::tuple("kernel", "kernel", "kernel_image_path"), std::tuple("initrd", "initrd", "initrd_path")}) {
    if (fields.contains(field)) {
      boot[key] = fields[field];
      continue;
    }
    // An image's initial RAM disk belongs to its kernel.
    if (vm.image.empty() || fields.contains("kernel")) continue;
    const Image image = manager.image_files().look(vm.image);
    if (const ImagePart* const found = image.part(part))
      boot[key] = manager.image_files().path(vm.image, *found).string();
  }
  json devices = json::array();
  for (const VolumeRow& row : manager.volumes().of_vm(vm.id))
    devices.push_back(disk_device(manager, "root", row));
  for (const std::string& name : spec.volumes()) {
    const auto row = manager.volumes().find(std::string_view(name));
    if (!row) throw ApiError(404, "volume-not-found", "there is no volume '" + name + "'");
    devices.push_back(disk_device(manager, "volume-" + name, *row));
  }
  for (const VmSpec::NetworkWish& wish : spec.networks()) {
    if (wish.network == user_network) {
      devices.push_back(net_device("network-user", {{"socket-fd", std::to_string(user_socket)}}));
      continue;
    }
    const auto row = manager.networks().find(std::string_view(wish.network));
    if (!row) throw ApiError(404, "network-not-found", "there is no network '" + wish.network + "'");
    const auto vm_number = static_cast<std::uint64_t>(vm.id);
    devices.push_back(net_device(
        "network-" + wish.network,
        {{"tap", tap_name(row->spec.id, vm_number)}, {"mac", lease_mac(row->spec.id, vm_number).text()}}));
  }
  if (fields.contains("devices"))
    for (const json& device : fields["devices"]) devices.push_back(device);
  json config = {{"boot-source", boot},
                 {"machine-config", {{"vcpu_count", spec.cpus()}, {"mem_size_mib", spec.memory_mib()}}}};
  if (!devices.empty()) config["hum-devices"] = devices;
  return config;
}

// --- steps ---

Task<> make_own_disks(Manager& manager, Run& run) {
  for (const VolumeRow& row : manager.volumes().of_vm(run.operation.object)) {
    Volume made;
    std::optional<std::uint64_t> size;
    if (row.size != 0) size = row.size;
    std::function<void()> work = [&files = manager.volume_files(), &made, row, size, task = run.file_task()] {
      made = files.create_overlay(row.id, row.digest, size, task);
    };
    co_await manager.background().run(std::move(work));
    manager.volumes().set_made(row.id, made.format, made.size);
    manager.volumes().set_state(row.id, ObjectState::ready);
    manager.store().commit();
  }
}

Task<> remove_own_disks(Manager& manager, Run& run) {
  for (const VolumeRow& row : manager.volumes().of_vm(run.operation.object)) {
    std::function<void()> work = [&files = manager.volume_files(), id = row.id] { files.remove(id); };
    co_await manager.background().run(std::move(work));
    manager.volumes().remove(row.id);
    manager.store().commit();
  }
}

Task<> connect_networks(Manager& manager, Run& run) {
  for (const std::int64_t id : manager.networks().of_vm(run.operation.object)) {
    std::function<void()> work = [&host = manager.network_host(), spec = manager.networks().find(id)->spec,
                                  leases = manager.networks().leases(id),
                                  vm = static_cast<std::uint64_t>(run.operation.object)] {
      host.ensure_network(spec, leases);
      host.ensure_tap(spec.id, {.vm = vm, .owner = ::geteuid()});
    };
    co_await manager.background().run(std::move(work));
  }
}

Task<> disconnect_networks(Manager& manager, Run& run) {
  for (const std::int64_t id : manager.networks().of_vm(run.operation.object)) {
    std::function<void()> work = [&host = manager.network_host(), network = static_cast<std::uint64_t>(id),
                                  vm = static_cast<std::uint64_t>(run.operation.object)] {
      host.remove_tap(network, vm);
    };
    co_await manager.background().run(std::move(work));
  }
}

Task<> collect_contents(Manager& manager, Run& /*run*/) {
  const TurnTaking::Turn turn = co_await manager.contents_turn().take();
  for (const std::string& digest : manager.images().unneeded_contents()) {
    if (manager.images().is_needed(digest)) continue;  // since the turn before
    std::function<void()> work = [&files = manager.image_files(), digest] { files.remove(digest); };
    co_await manager.background().run(std::move(work));
    // An import may have come upon the same content meanwhile; it waits for its turn to give it its place.
    if (!manager.images().is_needed(digest)) manager.images().forget_content(digest);
    manager.store().commit();
  }
}

}  // namespace hum
