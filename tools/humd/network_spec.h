// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/net/ip_address.h"
#include "devices/net/mac_address.h"
#include "devices/net/published_port.h"
#include "tools/humd/object.h"

namespace hum {

// A range of IPv4 addresses as routes know it. Value type.
struct Subnet {
  Ipv4Address base{};  // all bits behind the prefix are 0
  int prefix = 0;      // 0 to 32

  std::string text() const;  // "10.1.2.0/24"
  bool contains(Ipv4Address address) const;
  bool overlaps(const Subnet& other) const;
  Ipv4Address mask() const;  // 255.255.255.0

  bool operator==(const Subnet&) const = default;
};

std::string address_text(Ipv4Address address);  // "10.1.2.3"

// A network of virtual machines on this host, as its user wants it.
struct NetworkSpec {
  std::uint64_t id = 0;  // never used again for another
  std::string name;
  Subnet subnet;
  bool nat = true;  // false: nothing but its VMs and this host is reached from it
  std::string dns_domain;

  bool operator==(const NetworkSpec&) const = default;
};

// A VM's place in a network. The address stays with the VM as long as it is in the network.
struct Lease {
  std::uint64_t vm = 0;
  std::string name;
  MacAddress mac;
  Ipv4Address address{};
  std::vector<PublishedPort> ports;

  bool operator==(const Lease&) const = default;
};

inline constexpr std::string_view default_dns_domain = "hum.internal";

// These throw ConfigError with the key `what`.

// "10.1.2.0/24": of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10, and from /16 to /29.
Subnet parse_subnet(std::string_view what, std::string_view text);
Ipv4Address parse_ipv4_address(std::string_view what, std::string_view text);
// One or more labels of letters, digits and '-', in lower case.
void check_dns_domain(std::string_view what, std::string_view domain);

// What a network is by itself: all of the above.
void check_spec(const NetworkSpec& spec);
// The same for one that is to be made. others: networks of this host with other ids; routes:
// what the host reaches by others of its interfaces (NetworkHost::foreign_routes).
void check_network(const NetworkSpec& spec, std::span<const NetworkSpec> others,
                   std::span<const Subnet> routes);
// Every address is one that a VM of the network can have; no VM, name, address or MAC is there twice; what is
// published can be, and each port of the host once.
void check_leases(const NetworkSpec& spec, std::span<const Lease> leases);

// The addresses that VMs can have, both included: all but the network's, the gateway's and the last.
struct AddressRange {
  Ipv4Address first{};
  Ipv4Address last{};
};
AddressRange vm_addresses(const NetworkSpec& spec);
// The host's own address in the network, its first: VMs find the gateway and the name server there.
Ipv4Address gateway_address(const NetworkSpec& spec);
// The lowest one that is not in use. Throws ConfigError: there is none.
Ipv4Address first_free_address(const NetworkSpec& spec, std::span<const Ipv4Address> used);

// Always the same for a VM in a network.
MacAddress lease_mac(std::uint64_t network, std::uint64_t vm);

// "hum3" and "hum3v17". Throws ConfigError where the numbers are too large for an interface's name, which has
// 15 characters.
std::string bridge_name(std::uint64_t network);
std::string tap_name(std::uint64_t network, std::uint64_t vm);

}  // namespace hum
