// SPDX-License-Identifier: Apache-2.0
//
// What the API has for images, volumes and networks.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "tools/hum-vmm/fields.h"
#include "tools/humd/api_call.h"
#include "tools/humd/api_error.h"
#include "tools/humd/api_text.h"
#include "tools/humd/body_table.h"
#include "tools/humd/image_source.h"
#include "tools/humd/vm_resources.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;
using enum FieldType;

constexpr std::uint64_t mib = 1024UL * 1024;

constexpr Field image_fields[] = {
    {.name = "name", .required = true},
    {.name = "kernel"},
    {.name = "kernel_digest"},
    {.name = "initrd"},
    {.name = "initrd_digest"},
    {.name = "disk"},
    {.name = "disk_digest"},
    {.name = "format", .type = choice, .choices = "raw|qcow2"},
    {.name = "cmdline"},
};

constexpr Field volume_fields[] = {
    {.name = "name", .required = true},
    {.name = "size_mib", .type = integer, .minimum = 1},
    {.name = "format", .type = choice, .choices = "raw|qcow2"},
    {.name = "image"},
    {.name = "from"},
};

constexpr Field resize_fields[] = {
    {.name = "size_mib", .type = integer, .required = true, .minimum = 1},
    {.name = "shrink", .type = boolean},
};

constexpr Field network_fields[] = {
    {.name = "name", .required = true},
    {.name = "subnet"},
    {.name = "nat", .type = boolean},
    {.name = "dns_domain"},
};

json checked_with_name(const char* what, std::span<const Field> table, const ApiRequest& request) {
  json given = checked_fields(what, table, parse_json(request.body));
  check_name("name", given["name"].get<std::string>());
  return given;
}

void check_source(const json& given) {
  check_image_source(given);
  if (!given.contains("kernel") && !given.contains("initrd") && !given.contains("disk"))
    throw ConfigError("image", "", "nothing to make it of", "give a kernel, a disk, or both");
  if (given.contains("format") && !given.contains("disk"))
    throw ConfigError("format", given["format"].get<std::string>(), "there is no disk", "drop it");
}

// The first of those kept for networks that nothing else leads to.
Subnet free_subnet(const std::vector<NetworkSpec>& others, const std::vector<Subnet>& routes) {
  for (unsigned third = 0; third < 256; ++third) {
    const Subnet subnet{.base = {10, 77, static_cast<std::uint8_t>(third), 0}, .prefix = 24};
    const auto overlaps = [&](const Subnet& other) { return subnet.overlaps(other); };
    if (std::none_of(others.begin(), others.end(), [&](const auto& each) { return overlaps(each.subnet); }) &&
        std::none_of(routes.begin(), routes.end(), overlaps))
      return subnet;
  }
  throw ConfigError("subnet", "", "all of 10.77.0.0/16 is in use", "give another, like 172.20.5.0/24");
}

NetworkSpec network_spec(Manager& manager, const json& given) {
  std::vector<NetworkSpec> others;
  for (const NetworkRow& row : manager.networks().list({.most = -1})) others.push_back(row.spec);
  const std::vector<Subnet> routes = manager.network_host().foreign_routes();
  NetworkSpec spec{.name = given["name"],
                   .subnet = given.contains("subnet")
                                 ? parse_subnet("subnet", given["subnet"].get<std::string>())
                                 : free_subnet(others, routes),
                   .nat = given.value("nat", true),
                   .dns_domain = given.value("dns_domain", std::string(default_dns_domain))};
  if (spec.name == user_network)
    throw ConfigError("name", spec.name, "stands for the host's own network", "give another name");
  check_network(spec, others, routes);
  return spec;
}

const std::string& name_of(const NetworkRow& row) {
  return row.spec.name;
}
template <typename Row>
const std::string& name_of(const Row& row) {
  return row.name;
}

}  // namespace

std::vector<BodyTable> object_tables() {
  return {{"NewImage", image_fields},
          {"NewVolume", volume_fields},
          {"VolumeSize", resize_fields},
          {"NewNetwork", network_fields}};
}

template <typename Table>
auto Api::find_object(const Call& call, Table& table, ObjectType type) {
  auto row = table.find(std::string_view(call.parts[1]));
  const std::string word(to_string(type));
  if (!row || !may(call, row->owner))
    throw ApiError(404, word + "-not-found",
                   "there is no " + word + " '" + call.parts[1].substr(0, 64) + "'");
  return std::move(*row);
}

template <typename Table, typename Text>
ApiAnswer Api::list_objects(const Call& call, Table& table, const char* word, Text text) {
  const QueryFields fields(call.request.query, {"after", "limit"});
  ListFilter filter{.after = fields.text("after"),
                    .most = static_cast<int>(fields.number("limit", most_listed, most_listed))};
  if (!may(call, manager_.settings().administrator)) filter.owner = call.request.peer;
  const auto rows = table.list(filter);
  std::string body = std::string("{\"") + word + "\":[";
  for (const auto& row : rows) (body += &row == rows.data() ? "" : ",") += text(row);
  const bool more = filter.most > 0 && static_cast<int>(rows.size()) == filter.most;
  return ok(body + "],\"next\":" + (more ? '"' + name_of(rows.back()) + '"' : "null") + "}");
}

Task<ApiAnswer> Api::begin_object(Call& call, Operation operation, Manager::Prepare prepare) {
  const bool makes = call.request.method == "POST";
  const QueryFields fields = makes ? QueryFields(call.request.query, {"wait_s", "dry_run"})
                                   : QueryFields(call.request.query, {"wait_s"});
  fields.number("wait_s", 0, longest_wait);
  if (makes && fields.flag("dry_run")) co_return ok(dumped({{"dry_run", true}}));
  operation.owner = call.request.peer;
  Caller caller = caller_of(call.request);
  Operation begun_now =
      co_await manager_.begin_on_object(std::move(operation), std::move(caller), std::move(prepare));
  co_return co_await begun(call, std::move(begun_now));
}

std::string Api::addresses_text(std::int64_t vm) {
  json all = json::array();
  for (const std::int64_t id : manager_.networks().of_vm(vm)) {
    const auto network = manager_.networks().find(id);
    for (const Lease& lease : manager_.networks().leases(id))
      if (network && lease.vm == static_cast<std::uint64_t>(vm))
        all.push_back({{"network", network->spec.name},
                       {"address", address_text(lease.address)},
                       {"mac", lease.mac.text()}});
  }
  return dumped(all);
}

// --- images ---

Task<ApiAnswer> Api::list_images(Call& call) {
  co_return list_objects(call, manager_.images(), "images", image_text);
}

Task<ApiAnswer> Api::import_image(Call& call) {
  const json given = checked_with_name("image", image_fields, call.request);
  check_source(given);
  Operation operation{.kind = "import", .type = ObjectType::image, .object_name = given["name"]};
  operation.arguments = dumped(given);
  Manager::Prepare prepare = [this, user = call.request.peer](Operation& begun_now) {
    begun_now.object = manager_.images().insert(begun_now.object_name, user, begun_now.arguments);
  };
  co_return co_await begin_object(call, std::move(operation), std::move(prepare));
}

Task<ApiAnswer> Api::get_image(Call& call) {
  const QueryFields fields(call.request.query, {});
  co_return ok(image_text(find_object(call, manager_.images(), ObjectType::image)));
}

// What VMs and volumes are built upon stays as long as they do.
Task<ApiAnswer> Api::delete_image(Call& call) {
  const ImageRow row = find_object(call, manager_.images(), ObjectType::image);
  Operation operation{.kind = "delete", .type = ObjectType::image, .object = row.id, .object_name = row.name};
  Manager::Prepare prepare = [this](Operation& begun_now) {
    manager_.expect_idle({ObjectType::image, begun_now.object}, begun_now.object_name);
    manager_.images().set_state(begun_now.object, ObjectState::deleting);
  };
  co_return co_await begin_object(call, std::move(operation), std::move(prepare));
}

// --- volumes ---

Task<ApiAnswer> Api::list_volumes(Call& call) {
  co_return list_objects(call, manager_.volumes(), "volumes", [this](const VolumeRow& row) {
    return volume_text(row, manager_.volumes().users(row.id));
  });
}

Task<ApiAnswer> Api::create_volume(Call& call) {
  const json given = checked_with_name("volume", volume_fields, call.request);
  const bool copies = given.contains("image") || given.contains("from");
  if (given.contains("image") && given.contains("from"))
    throw ConfigError("from", given["from"].get<std::string>(), "there is an image, too", "give one of them");
  if (!copies && !given.contains("size_mib"))
    throw ConfigError("size_mib", "", "missing", "give a size, or an image or a volume to begin with");
  if (given.contains("from") && given.contains("size_mib"))
    throw ConfigError("size_mib", "", "a copy is as large as its volume", "drop it, and resize the copy");
  if (copies && given.contains("format"))
    throw ConfigError("format", given["format"].get<std::string>(), "is said by what the volume begins with",
                      "drop it");
  Operation operation{.kind = "create", .type = ObjectType::volume, .object_name = given["name"]};
  Manager::Prepare prepare = [this, given, user = call.request.peer](Operation& begun_now) {
    VolumeRow row{.name = given["name"], .owner = user};
    row.size = given.value("size_mib", std::uint64_t{0}) * mib;
    if (given.value("format", "raw") == "qcow2") row.format = ImageFormat::qcow2;
    if (given.contains("image")) {
      const ImageRow image = ready_image(manager_, given["image"].get<std::string>(), user);
      row.digest = image.digest;
      row.format = ImageFormat::qcow2;
      if (manager_.image_files().look(image.digest).part("disk") == nullptr)
        throw ConfigError("image", image.name, "has no disk", "give one that has");
    }
    if (given.contains("from")) {
      const VolumeRow from = ready_volume(manager_, given["from"].get<std::string>(), user);
      manager_.expect_idle({ObjectType::volume, from.id}, from.name);
      expect_no_runner(manager_, from);
      row.digest = from.digest;
      begun_now.arguments = json{{"from", from.id}}.dump();
    }
    begun_now.object = manager_.volumes().insert(row);
  };
  co_return co_await begin_object(call, std::move(operation), std::move(prepare));
}

Task<ApiAnswer> Api::get_volume(Call& call) {
  const QueryFields fields(call.request.query, {});
  const VolumeRow row = find_object(call, manager_.volumes(), ObjectType::volume);
  co_return ok(volume_text(row, manager_.volumes().users(row.id)));
}

Task<ApiAnswer> Api::resize_volume(Call& call) {
  const VolumeRow row = find_object(call, manager_.volumes(), ObjectType::volume);
  const json given = checked_fields("volume", resize_fields, parse_json(call.request.body));
  Operation operation{
      .kind = "resize", .type = ObjectType::volume, .object = row.id, .object_name = row.name};
  operation.arguments =
      json{{"size", given["size_mib"].get<std::uint64_t>() * mib}, {"shrink", given.value("shrink", false)}}
          .dump();
  Manager::Prepare prepare = [this, row](Operation&) {
    manager_.expect_idle({ObjectType::volume, row.id}, row.name);
    expect_no_runner(manager_, row);
  };
  co_return co_await begin_object(call, std::move(operation), std::move(prepare));
}

Task<ApiAnswer> Api::delete_volume(Call& call) {
  const VolumeRow row = find_object(call, manager_.volumes(), ObjectType::volume);
  Operation operation{
      .kind = "delete", .type = ObjectType::volume, .object = row.id, .object_name = row.name};
  Manager::Prepare prepare = [this](Operation& begun_now) {
    manager_.expect_idle({ObjectType::volume, begun_now.object}, begun_now.object_name);
    const std::vector<std::string> users = manager_.volumes().users(begun_now.object);
    if (!users.empty())
      throw ApiError(409, "volume-in-use",
                     "the VM '" + users.front() + "' has the volume '" + begun_now.object_name +
                         "'; take it from that VM first");
    manager_.volumes().set_state(begun_now.object, ObjectState::deleting);
  };
  co_return co_await begin_object(call, std::move(operation), std::move(prepare));
}

// --- networks ---

Task<ApiAnswer> Api::list_networks(Call& call) {
  co_return list_objects(call, manager_.networks(), "networks", [this](const NetworkRow& row) {
    return network_text(row, manager_.networks().leases(row.id()));
  });
}

Task<ApiAnswer> Api::create_network(Call& call) {
  const json given = checked_with_name("network", network_fields, call.request);
  Operation operation{.kind = "create", .type = ObjectType::network, .object_name = given["name"]};
  Manager::Prepare prepare = [this, given, user = call.request.peer](Operation& begun_now) {
    begun_now.object = manager_.networks().insert(network_spec(manager_, given), user);
  };
  co_return co_await begin_object(call, std::move(operation), std::move(prepare));
}

Task<ApiAnswer> Api::get_network(Call& call) {
  const QueryFields fields(call.request.query, {});
  const NetworkRow row = find_object(call, manager_.networks(), ObjectType::network);
  co_return ok(network_text(row, manager_.networks().leases(row.id())));
}

Task<ApiAnswer> Api::delete_network(Call& call) {
  const NetworkRow row = find_object(call, manager_.networks(), ObjectType::network);
  Operation operation{
      .kind = "delete", .type = ObjectType::network, .object = row.id(), .object_name = row.spec.name};
  Manager::Prepare prepare = [this](Operation& begun_now) {
    manager_.expect_idle({ObjectType::network, begun_now.object}, begun_now.object_name);
    const std::vector<Lease> leases = manager_.networks().leases(begun_now.object);
    if (!leases.empty())
      throw ApiError(409, "network-in-use",
                     "the VM '" + leases.front().name + "' is in the network '" + begun_now.object_name +
                         "'; take it from there first");
    manager_.networks().set_state(begun_now.object, ObjectState::deleting);
  };
  co_return co_await begin_object(call, std::move(operation), std::move(prepare));
}

}  // namespace hum
