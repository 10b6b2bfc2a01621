// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "tools/humd/api_error.h"
#include "tools/humd/image_source.h"
#include "tools/humd/manager.h"
#include "tools/humd/vm_resources.h"
#include "tools/humd/workflows.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

json arguments_of(const Run& run) {
  return json::parse(run.operation.arguments);
}

void tell(Manager& manager, const Run& run, std::string_view what) {
  const std::string type(to_string(run.operation.type));
  manager.tell(type + "." + std::string(what),
               {{type, run.operation.object_name}, {"id", run.operation.object}});
}

Task<> keep_record(Manager& /*manager*/, Run& /*run*/) {
  co_return;  // the row came, or was marked, together with the operation
}

// --- images ---

Task<> forget_image(Manager& manager, Run& run) {
  manager.images().remove(run.operation.object);
  manager.store().commit();
  co_await collect_contents(manager, run);
}

Task<> stage_image(Manager& manager, Run& run) {
  const json given = arguments_of(run);
  Image image;
  std::function<void()> work = [&files = manager.image_files(), &image, given, id = run.operation.id,
                                task = run.file_task()] {
    image = files.stage(id, pull_image_source(files.operation_folder(id), given, {}, task), task);
  };
  co_await manager.background().run(std::move(work));
  manager.images().set_content(run.operation.object, image);
}

Task<> discard_image(Manager& manager, Run& run) {
  std::function<void()> work = [&files = manager.image_files(), id = run.operation.id] { files.discard(id); };
  co_await manager.background().run(std::move(work));
}

Task<> publish_image(Manager& manager, Run& run) {
  const auto row = manager.images().find(run.operation.object);
  if (!row) throw ApiError(404, "image-not-found", "the image is not there any more");
  const TurnTaking::Turn turn = co_await manager.contents_turn().take();
  std::function<void()> work = [&files = manager.image_files(), id = run.operation.id, digest = row->digest,
                                task = run.file_task()] { files.publish(id, digest, task); };
  co_await manager.background().run(std::move(work));
}

Task<> finish_image(Manager& manager, Run& run) {
  manager.images().set_state(run.operation.object, ObjectState::ready);
  tell(manager, run, "created");
  co_return;
}

Task<> tell_image_gone(Manager& manager, Run& run) {
  tell(manager, run, "deleted");
  co_return;
}

constexpr Step import_steps[] = {
    {"record", keep_record, forget_image},
    {"stage", stage_image, discard_image},
    {"publish", publish_image},
    {"finish", finish_image},
};
constexpr Step delete_image_steps[] = {
    {"forget", forget_image},
    {"tell", tell_image_gone},
};
constexpr Workflow image_workflows[] = {
    {.kind = "import", .steps = import_steps, .is_lasting = true},
    {.kind = "delete", .steps = delete_image_steps, .is_final = true, .is_lasting = true}};

// --- volumes ---

VolumeRow volume_of(Manager& manager, const Run& run) {
  auto row = manager.volumes().find(run.operation.object);
  if (!row) throw ApiError(404, "volume-not-found", "the volume is not there any more");
  return std::move(*row);
}

Task<> forget_volume(Manager& manager, Run& run) {
  manager.volumes().remove(run.operation.object);
  manager.store().commit();
  co_await collect_contents(manager, run);
}

Task<> make_volume(Manager& manager, Run& run) {
  const VolumeRow row = volume_of(manager, run);
  const std::int64_t from = arguments_of(run).value("from", std::int64_t{0});
  Volume made;
  std::function<void()> work = [&files = manager.volume_files(), &made, row, from, task = run.file_task()] {
    std::optional<std::uint64_t> size;
    if (row.size != 0) size = row.size;
    if (from != 0)
      made = files.clone(row.id, from, task);
    else if (!row.digest.empty())
      made = files.create_overlay(row.id, row.digest, size, task);
    else
      made = files.create(row.id, row.size, row.format, task);
  };
  co_await manager.background().run(std::move(work));
  manager.volumes().set_made(row.id, made.format, made.size);
}

Task<> remove_volume(Manager& manager, Run& run) {
  std::function<void()> work = [&files = manager.volume_files(), id = run.operation.object] {
    files.remove(id);
  };
  co_await manager.background().run(std::move(work));
}

Task<> finish_volume(Manager& manager, Run& run) {
  manager.volumes().set_state(run.operation.object, ObjectState::ready);
  tell(manager, run, "created");
  co_return;
}

Task<> keep_volume(Manager& manager, Run& run) {
  manager.volumes().set_state(run.operation.object, ObjectState::ready);
  co_return;
}

Task<> tell_volume_gone(Manager& manager, Run& run) {
  tell(manager, run, "deleted");
  co_return;
}

Task<> resize_volume(Manager& manager, Run& run) {
  const json given = arguments_of(run);
  Volume made;
  std::function<void()> work = [&files = manager.volume_files(), &made, id = run.operation.object,
                                size = given["size"].get<std::uint64_t>(),
                                shrink = given.value("shrink", false),
                                task = run.file_task()] { made = files.resize(id, size, shrink, task); };
  co_await manager.background().run(std::move(work));
  manager.volumes().set_made(run.operation.object, made.format, made.size);
  tell(manager, run, "resized");
}

constexpr Step create_volume_steps[] = {
    {"record", keep_record, forget_volume},
    {"make", make_volume, remove_volume},
    {"finish", finish_volume},
};
constexpr Step resize_volume_steps[] = {{"resize", resize_volume}};
// One that is in use stays.
constexpr Step delete_volume_steps[] = {
    {"record", keep_record, keep_volume},
    {"remove", remove_volume},
    {"forget", forget_volume},
    {"tell", tell_volume_gone},
};
constexpr Workflow volume_workflows[] = {
    {.kind = "create", .steps = create_volume_steps, .is_lasting = true},
    {.kind = "resize", .steps = resize_volume_steps, .is_lasting = true},
    {.kind = "delete", .steps = delete_volume_steps, .is_final = true, .is_lasting = true}};

// --- networks ---

Task<> forget_network(Manager& manager, Run& run) {
  manager.networks().remove(run.operation.object);
  co_return;
}

Task<> make_network(Manager& manager, Run& run) {
  const auto row = manager.networks().find(run.operation.object);
  if (!row) throw ApiError(404, "network-not-found", "the network is not there any more");
  std::function<void()> work = [&host = manager.network_host(), spec = row->spec] {
    host.ensure_network(spec, {});
  };
  co_await manager.background().run(std::move(work));
}

Task<> remove_network(Manager& manager, Run& run) {
  std::function<void()> work = [&host = manager.network_host(),
                                id = static_cast<std::uint64_t>(run.operation.object)] {
    host.remove_network(id);
  };
  co_await manager.background().run(std::move(work));
}

Task<> finish_network(Manager& manager, Run& run) {
  manager.networks().set_state(run.operation.object, ObjectState::ready);
  tell(manager, run, "created");
  co_return;
}

Task<> tell_network_gone(Manager& manager, Run& run) {
  tell(manager, run, "deleted");
  co_return;
}

constexpr Step create_network_steps[] = {
    {"record", keep_record, forget_network},
    {"make", make_network, remove_network},
    {"finish", finish_network},
};
constexpr Step delete_network_steps[] = {
    {"remove", remove_network},
    {"forget", forget_network},
    {"tell", tell_network_gone},
};
constexpr Workflow network_workflows[] = {
    {.kind = "create", .steps = create_network_steps, .is_lasting = true},
    {.kind = "delete", .steps = delete_network_steps, .is_final = true, .is_lasting = true}};

const Workflow* found_in(std::span<const Workflow> workflows, std::string_view kind) {
  const auto found = std::find_if(workflows.begin(), workflows.end(),
                                  [&](const Workflow& each) { return each.kind == kind; });
  return found == workflows.end() ? nullptr : &*found;
}

}  // namespace

const Workflow* find_workflow(ObjectType type, std::string_view kind) {
  switch (type) {
    case ObjectType::vm:
      return vm_workflow(kind);
    case ObjectType::image:
      return found_in(image_workflows, kind);
    case ObjectType::volume:
      return found_in(volume_workflows, kind);
    case ObjectType::network:
      return found_in(network_workflows, kind);
  }
  return nullptr;
}

}  // namespace hum
