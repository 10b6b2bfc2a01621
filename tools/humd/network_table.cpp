// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_table.h"

#include <algorithm>

#include "tools/humd/table_rows.h"

namespace hum {
namespace {

constexpr std::string_view select =
    "SELECT id, name, owner, state, subnet, nat, dns_domain, created FROM network ";

NetworkRow network_of(const Query& row) {
  return {.spec = {.id = static_cast<std::uint64_t>(row.number(0)),
                   .name = row.text(1),
                   .subnet = parse_subnet("network.subnet", row.text(4)),
                   .nat = row.number(5) != 0,
                   .dns_domain = row.text(6)},
          .owner = static_cast<uid_t>(row.number(2)),
          .state = object_state(row.text(3)),
          .created = row.real(7)};
}

std::int64_t number_of(Ipv4Address address) {
  std::int64_t number = 0;
  for (const std::uint8_t byte : address) number = number * 256 + byte;
  return number;
}

Ipv4Address address_of(std::int64_t number) {
  Ipv4Address address{};
  for (auto byte = address.rbegin(); byte != address.rend(); ++byte, number /= 256)
    *byte = static_cast<std::uint8_t>(number % 256);
  return address;
}

}  // namespace

std::int64_t NetworkTable::insert(const NetworkSpec& spec, uid_t owner) {
  if (find(spec.name)) throw name_taken("a network", spec.name);
  store_.database().execute(
      "INSERT INTO network (name, owner, state, subnet, nat, dns_domain, created)"
      " VALUES (?, ?, 'creating', ?, ?, ?, ?)",
      {spec.name, static_cast<std::int64_t>(owner), spec.subnet.text(), spec.nat, spec.dns_domain,
       wall_clock()});
  return store_.database().last_row();
}

void NetworkTable::remove(std::int64_t id) {
  store_.database().execute("DELETE FROM network WHERE id = ?", {id});
}

std::optional<NetworkRow> NetworkTable::find(std::int64_t id) {
  return first(store_.database().query(std::string(select) + "WHERE id = ?", {id}), network_of);
}

std::optional<NetworkRow> NetworkTable::find(std::string_view name) {
  if (const auto id = number_in(name)) return find(*id);
  return first(store_.database().query(std::string(select) + "WHERE name = ?", {name}), network_of);
}

std::vector<NetworkRow> NetworkTable::list(const ListFilter& filter) {
  return every(store_.database().query(
                   std::string(select) + "WHERE name > ? AND (? IS NULL OR owner = ?) ORDER BY name LIMIT ?",
                   {filter.after, owner_of(filter), owner_of(filter), filter.most}),
               network_of);
}

void NetworkTable::set_state(std::int64_t id, ObjectState state) {
  store_.database().execute("UPDATE network SET state = ? WHERE id = ?", {to_string(state), id});
}

void NetworkTable::set_places(std::int64_t vm, const std::vector<Place>& places) {
  for (const std::int64_t network : of_vm(vm))
    if (std::none_of(places.begin(), places.end(),
                     [&](const Place& each) { return each.network == network; }))
      store_.database().execute("DELETE FROM lease WHERE network = ? AND vm = ?", {network, vm});
  for (const Place& place : places) {
    const auto row = find(place.network);
    if (!row) continue;
    if (store_.database().execute("UPDATE lease SET ports = ? WHERE network = ? AND vm = ?",
                                  {place.ports, place.network, vm}) == 0) {
      std::vector<Ipv4Address> used;
      for (const Lease& lease : leases(place.network)) used.push_back(lease.address);
      store_.database().execute(
          "INSERT INTO lease VALUES (?, ?, ?, ?)",
          {place.network, vm, number_of(first_free_address(row->spec, used)), place.ports});
    }
    check_leases(row->spec, leases(place.network));
  }
}

std::vector<Lease> NetworkTable::leases(std::int64_t network) {
  return every(store_.database().query("SELECT vm.id, vm.name, lease.address, lease.ports FROM lease"
                                       " JOIN vm ON vm.id = lease.vm WHERE lease.network = ? ORDER BY vm.id",
                                       {network}),
               [&](const Query& row) {
                 Lease lease{.vm = static_cast<std::uint64_t>(row.number(0)),
                             .name = row.text(1),
                             .mac = lease_mac(static_cast<std::uint64_t>(network),
                                              static_cast<std::uint64_t>(row.number(0))),
                             .address = address_of(row.number(2)),
                             .ports = {}};
                 if (const std::string ports = row.text(3); !ports.empty())
                   lease.ports = parse_published_ports("networks.ports", ports);
                 return lease;
               });
}

std::vector<std::int64_t> NetworkTable::of_vm(std::int64_t vm) {
  return every(store_.database().query("SELECT network FROM lease WHERE vm = ? ORDER BY network", {vm}),
               [](const Query& row) { return row.number(0); });
}

}  // namespace hum
