// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_spec.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr int widest_prefix = 16;
constexpr int narrowest_prefix = 29;
constexpr std::size_t longest_domain = 190;  // with a VM's name before it: 255 (RFC 1035, 2.3.4)

constexpr Subnet private_ranges[] = {
    {{10, 0, 0, 0}, 8}, {{172, 16, 0, 0}, 12}, {{192, 168, 0, 0}, 16}, {{100, 64, 0, 0}, 10}};

std::uint32_t number_of(Ipv4Address address) {
  return std::uint32_t{address[0]} << 24 | std::uint32_t{address[1]} << 16 | std::uint32_t{address[2]} << 8 |
         address[3];
}

Ipv4Address address_of(std::uint32_t number) {
  return {static_cast<std::uint8_t>(number >> 24), static_cast<std::uint8_t>(number >> 16),
          static_cast<std::uint8_t>(number >> 8), static_cast<std::uint8_t>(number)};
}

std::uint32_t mask_of(int prefix) {
  return prefix == 0 ? 0 : ~std::uint32_t{0} << (32 - prefix);
}

bool read_address(std::string_view text, Ipv4Address& address) {
  return ::inet_pton(AF_INET, std::string(text).c_str(), address.data()) == 1;
}

bool is_lower_alphanumeric(char each) {
  return (each >= 'a' && each <= 'z') || (each >= '0' && each <= '9');
}

bool is_label(std::string_view label) {
  return !label.empty() && label.size() <= 63 && is_lower_alphanumeric(label.front()) &&
         is_lower_alphanumeric(label.back()) &&
         std::ranges::all_of(label, [](char each) { return is_lower_alphanumeric(each) || each == '-'; });
}

void check_port(const NetworkSpec& spec, const Lease& lease, const PublishedPort& port) {
  const auto refuse = [&](const std::string& problem, const std::string& fix) {
    throw ConfigError("publish", port.text(), problem, fix);
  };
  if (port.host == 0 || port.guest == 0)
    refuse("VM '" + lease.name + "': 0 is no port", "give ports from 1 to 65535");
  Ipv4Address address{};
  if (!port.address.empty() && !read_address(port.address, address))
    refuse("the VMs of network '" + spec.name + "' have IPv4 addresses only", "give an IPv4 address or none");
  if (!spec.nat)
    refuse("the network '" + spec.name + "' is closed: nothing outside reaches its VMs",
           "put the VM into a network with nat");
}

}  // namespace

std::string address_text(Ipv4Address address) {
  return std::to_string(address[0]) + "." + std::to_string(address[1]) + "." + std::to_string(address[2]) +
         "." + std::to_string(address[3]);
}

std::string Subnet::text() const {
  return address_text(base) + "/" + std::to_string(prefix);
}

bool Subnet::contains(Ipv4Address address) const {
  return (number_of(address) & mask_of(prefix)) == number_of(base);
}

bool Subnet::overlaps(const Subnet& other) const {
  return prefix <= other.prefix ? contains(other.base) : other.contains(base);
}

Ipv4Address Subnet::mask() const {
  return address_of(mask_of(prefix));
}

Subnet parse_subnet(std::string_view what, std::string_view text) {
  const auto refuse = [&](const std::string& problem, const std::string& fix) {
    throw ConfigError(std::string(what), std::string(text), problem, fix);
  };
  const std::size_t slash = text.find('/');
  Subnet subnet;
  const std::string_view digits = slash == std::string_view::npos ? "" : text.substr(slash + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), subnet.prefix);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size() ||
      !read_address(text.substr(0, slash), subnet.base))
    refuse("is no IPv4 subnet", "give one like 10.20.30.0/24");
  if (subnet.prefix < widest_prefix || subnet.prefix > narrowest_prefix)
    refuse("has a prefix that is not from /16 to /29", "give one like /24, which has room for 253 VMs");
  const Ipv4Address base = address_of(number_of(subnet.base) & mask_of(subnet.prefix));
  if (base != subnet.base) refuse("has bits behind its prefix", "give " + Subnet{base, subnet.prefix}.text());
  if (std::ranges::none_of(private_ranges, [&](const Subnet& range) { return range.contains(base); }))
    refuse("is not a private range", "give one of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10");
  return subnet;
}

Ipv4Address parse_ipv4_address(std::string_view what, std::string_view text) {
  Ipv4Address address{};
  if (!read_address(text, address))
    throw ConfigError(std::string(what), std::string(text), "is no IPv4 address",
                      "give one like 10.20.30.40");
  return address;
}

void check_dns_domain(std::string_view what, std::string_view domain) {
  const auto refuse = [&](const std::string& problem) {
    throw ConfigError(std::string(what), std::string(domain), problem,
                      "give one like " + std::string(default_dns_domain));
  };
  if (domain.size() > longest_domain) refuse("is longer than 190 characters");
  // RFC 6762, 3: multicast DNS.
  if (domain == "local" || domain.ends_with(".local")) refuse("names below local are not asked of a server");
  for (std::size_t begin = 0; begin <= domain.size();) {
    const std::size_t end = std::min(domain.find('.', begin), domain.size());
    if (!is_label(domain.substr(begin, end - begin)))
      refuse("is no domain: lower-case letters, digits and '-' between dots");
    begin = end + 1;
  }
}

void check_spec(const NetworkSpec& spec) {
  check_name("name", spec.name);
  check_dns_domain("dns_domain", spec.dns_domain);
  parse_subnet("subnet", spec.subnet.text());
}

void check_network(const NetworkSpec& spec, std::span<const NetworkSpec> others,
                   std::span<const Subnet> routes) {
  check_spec(spec);
  const auto refuse = [&](const std::string& problem) {
    throw ConfigError("subnet", spec.subnet.text(), problem, "give another, like 10.20.30.0/24");
  };
  for (const NetworkSpec& other : others) {
    if (other.name == spec.name)
      throw ConfigError("name", spec.name, "there is a network of that name", "give another");
    if (other.subnet.overlaps(spec.subnet))
      refuse("overlaps with " + other.subnet.text() + " of the network '" + other.name + "'");
  }
  for (const Subnet& route : routes)
    if (route.overlaps(spec.subnet)) refuse("this host has a route to " + route.text());
}

void check_leases(const NetworkSpec& spec, std::span<const Lease> leases) {
  const AddressRange range = vm_addresses(spec);
  std::set<std::uint64_t> vms;
  std::set<std::string> names;
  std::set<Ipv4Address> addresses;
  std::set<std::string> macs;
  std::map<std::pair<std::uint16_t, PublishedPort::Protocol>, std::string> ports;
  for (const Lease& lease : leases) {
    check_name("vm", lease.name);
    if (!vms.insert(lease.vm).second || !names.insert(lease.name).second)
      throw ConfigError("vm", lease.name, "is twice in the network '" + spec.name + "'");
    if (lease.address < range.first || lease.address > range.last)
      throw ConfigError("address", address_text(lease.address),
                        "is none that a VM of the network '" + spec.name + "' can have",
                        "give one from " + address_text(range.first) + " to " + address_text(range.last));
    if (!addresses.insert(lease.address).second)
      throw ConfigError("address", address_text(lease.address), "two VMs have it", "give another");
    parse_mac_address("mac", lease.mac.text());
    if (!macs.insert(lease.mac.text()).second)
      throw ConfigError("mac", lease.mac.text(), "two VMs have it", "give another");
    for (const PublishedPort& port : lease.ports) {
      check_port(spec, lease, port);
      const auto [known, is_new] = ports.emplace(std::pair(port.host, port.protocol), lease.name);
      if (!is_new)
        throw ConfigError("publish", port.text(), "the VM '" + known->second + "' has this port of the host",
                          "give another");
    }
  }
}

AddressRange vm_addresses(const NetworkSpec& spec) {
  const std::uint32_t base = number_of(spec.subnet.base);
  return {address_of(base + 2), address_of((base | ~mask_of(spec.subnet.prefix)) - 1)};
}

Ipv4Address gateway_address(const NetworkSpec& spec) {
  return address_of(number_of(spec.subnet.base) + 1);
}

Ipv4Address first_free_address(const NetworkSpec& spec, std::span<const Ipv4Address> used) {
  const std::set<Ipv4Address> taken(used.begin(), used.end());
  const AddressRange range = vm_addresses(spec);
  for (std::uint32_t each = number_of(range.first); each <= number_of(range.last); ++each)
    if (!taken.contains(address_of(each))) return address_of(each);
  throw ConfigError("network", spec.name, "all addresses of " + spec.subnet.text() + " are in use",
                    "delete a VM, or make a network with a wider subnet");
}

MacAddress lease_mac(std::uint64_t network, std::uint64_t vm) {
  return derived_mac_address("network " + std::to_string(network) + " vm " + std::to_string(vm));
}

std::string bridge_name(std::uint64_t network) {
  std::string name = "hum" + std::to_string(network);
  if (name.size() >= IFNAMSIZ)
    throw ConfigError("network", std::to_string(network), "the number is too large for the bridge's name");
  return name;
}

std::string tap_name(std::uint64_t network, std::uint64_t vm) {
  std::string name = bridge_name(network) + "v" + std::to_string(vm);
  if (name.size() >= IFNAMSIZ)
    throw ConfigError("vm", std::to_string(vm), "the number is too large for the tap's name");
  return name;
}

}  // namespace hum
