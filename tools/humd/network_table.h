// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/humd/disk_tables.h"
#include "tools/humd/network_spec.h"
#include "tools/humd/object.h"
#include "tools/humd/store.h"

namespace hum {

// A network as the store has it.
struct NetworkRow {
  NetworkSpec spec{};
  uid_t owner = 0;
  ObjectState state = ObjectState::creating;
  double created = 0;

  std::int64_t id() const { return static_cast<std::int64_t>(spec.id); }
};

// Networks and the places of VMs in them. Nothing here commits.
class NetworkTable {
 public:
  explicit NetworkTable(Store& store) : store_(store) {}

  // Its number is not looked at. Throws ApiError (409): the name is taken.
  std::int64_t insert(const NetworkSpec& spec, uid_t owner);
  void remove(std::int64_t id);
  std::optional<NetworkRow> find(std::int64_t id);
  std::optional<NetworkRow> find(std::string_view name);
  std::vector<NetworkRow> list(const ListFilter& filter);
  void set_state(std::int64_t id, ObjectState state);

  struct Place {
    std::int64_t network = 0;
    std::string ports{};  // as parse_published_ports reads them
  };
  // A VM is in these networks from now on; where it was before it keeps its address. Throws ConfigError: a
  // network is full, or a port is published twice.
  void set_places(std::int64_t vm, const std::vector<Place>& places);
  std::vector<Lease> leases(std::int64_t network);
  // The networks that a VM is in.
  std::vector<std::int64_t> of_vm(std::int64_t vm);

 private:
  Store& store_;
};

}  // namespace hum
