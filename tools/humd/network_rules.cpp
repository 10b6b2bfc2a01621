// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_rules.h"

#include <vector>

namespace hum {
namespace {

std::string quoted(const std::string& name) {
  return '"' + name + '"';
}

// Nothing for none: nft knows no empty list.
std::string elements(const std::vector<std::string>& values) {
  std::string text;
  for (const std::string& value : values) text += (text.empty() ? "" : ", ") + value;
  return text.empty() ? "" : "    elements = { " + text + " }\n";
}

struct Elements {
  std::vector<std::string> macs;
  std::vector<std::string> addresses;
  std::vector<std::string> ports;            // at any address of the host
  std::vector<std::string> addressed_ports;  // at one
};

Elements elements_of(const NetworkSpec& spec, std::span<const Lease> leases) {
  Elements found;
  for (const Lease& lease : leases) {
    const std::string tap = quoted(tap_name(spec.id, lease.vm)) + " . ";
    const std::string address = address_text(lease.address);
    found.macs.push_back(tap + lease.mac.text());
    found.addresses.push_back(tap + address);
    for (const PublishedPort& port : lease.ports) {
      const std::string from = port.protocol == PublishedPort::Protocol::tcp ? "tcp . " : "udp . ";
      const std::string rule =
          from + std::to_string(port.host) + " : " + address + " . " + std::to_string(port.guest);
      if (port.address.empty())
        found.ports.push_back(rule);
      else
        found.addressed_ports.push_back(port.address + " . " + rule);
    }
  }
  return found;
}

std::string redirection(const std::string& hook) {
  return "  chain " + hook + " {\n    type nat hook " + hook +
         " priority -100; policy accept;\n"
         "    dnat ip to ip daddr . meta l4proto . th dport map @addressed_ports\n"
         "    fib daddr type local dnat ip to meta l4proto . th dport map @ports\n"
         "  }\n";
}

std::string routed_table(const std::string& table, const NetworkSpec& spec, const Elements& known) {
  const std::string bridge = quoted(bridge_name(spec.id));
  const std::string subnet = spec.subnet.text();
  std::string text = "table inet " + table + " {\n";
  text += "  map ports {\n    type inet_proto . inet_service : ipv4_addr . inet_service\n" +
          elements(known.ports) + "  }\n";
  text +=
      "  map addressed_ports {\n    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service\n" +
      elements(known.addressed_ports) + "  }\n";
  // The bridge routes the host's loopback addresses to VMs where a port is published (route_localnet): VMs
  // must not use that.
  text += "  chain first {\n    type filter hook prerouting priority raw; policy accept;\n    iifname " +
          bridge + " ip daddr 127.0.0.0/8 drop\n  }\n";
  text += redirection("prerouting") + redirection("output");
  text += "  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n";
  if (spec.nat)
    text += "    ip saddr " + subnet + " ip daddr != " + subnet + " oifname != " + bridge + " masquerade\n";
  // The answer has to come back by the host, which turns the address back.
  text += "    ip saddr " + subnet + " ip daddr " + subnet + " ct status dnat masquerade\n";
  text += "    ip saddr 127.0.0.0/8 oifname " + bridge + " masquerade\n  }\n";
  text += "  chain input {\n    type filter hook input priority filter; policy accept;\n    ip daddr " +
          address_text(gateway_address(spec)) + " iifname != { " + bridge + ", \"lo\" } drop\n  }\n";
  text += "  chain forward {\n    type filter hook forward priority filter; policy accept;\n    iifname " +
          bridge + " oifname " + bridge + " accept\n    oifname " + bridge + " jump entering\n    iifname " +
          bridge + " jump leaving\n  }\n";
  text +=
      "  chain entering {\n    ct state established,related accept\n    ct status dnat accept\n    drop\n  "
      "}\n";
  text += "  chain leaving {\n";
  if (spec.nat) text += "    ip saddr " + subnet + " accept\n";
  text += "    drop\n  }\n}\n";
  return text;
}

std::string bridged_table(const std::string& table, const NetworkSpec& spec, const Elements& known) {
  return "table bridge " + table + " {\n  set macs {\n    type ifname . ether_addr\n" + elements(known.macs) +
         "  }\n  set addresses {\n    type ifname . ipv4_addr\n" + elements(known.addresses) +
         "  }\n"
         "  chain prerouting {\n"
         "    type filter hook prerouting priority filter; policy accept;\n"
         "    iifname " +
         quoted(bridge_name(spec.id) + "v*") +
         " jump sent\n"
         "  }\n"
         "  chain sent {\n"
         "    iifname . ether saddr != @macs drop\n"
         "    ether type != { ip, arp } drop\n"
         "    udp sport 67 drop\n"  // VMs ask for addresses and give none
         "    ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n"
         "    ether type ip iifname . ip saddr != @addresses drop\n"
         "    ether type arp iifname . arp saddr ether != @macs drop\n"
         "    arp saddr ip 0.0.0.0 accept\n"  // RFC 5227, 2.1.1: is an address free?
         "    ether type arp iifname . arp saddr ip != @addresses drop\n"
         "  }\n"
         "}\n";
}

}  // namespace

std::string rules_table(const std::string& instance, std::uint64_t network) {
  return "hummingbird_" + instance + "_" + std::to_string(network);
}

std::string rules_removal_text(const std::string& table) {
  std::string text;
  // To delete what is not there fails, to add what is there does not.
  for (const std::string family : {"inet", "bridge"})
    for (const std::string verb : {"add", "delete"}) text += verb + " table " + family + " " + table + "\n";
  return text;
}

std::string rules_text(const std::string& table, const NetworkSpec& spec, std::span<const Lease> leases) {
  const Elements known = elements_of(spec, leases);
  return rules_removal_text(table) + routed_table(table, spec, known) + bridged_table(table, spec, known);
}

}  // namespace hum
