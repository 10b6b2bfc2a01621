// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_rules.h"

#include "tools/humd/network_dnsmasq.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

NetworkSpec network() {
  return {.id = 3, .name = "blue", .subnet = {{10, 20, 16, 0}, 20}, .nat = true, .dns_domain = "vm.example"};
}

std::vector<Lease> leases() {
  using enum PublishedPort::Protocol;
  return {{.vm = 1,
           .name = "one",
           .mac = {{2, 0, 0, 0, 0, 1}},
           .address = {10, 20, 16, 2},
           .ports = {{.address = {}, .host = 8080, .guest = 80, .protocol = tcp},
                     {.address = "192.0.2.1", .host = 53, .guest = 5353, .protocol = udp}}},
          {.vm = 2, .name = "a.b", .mac = {{2, 0, 0, 0, 0, 2}}, .address = {10, 20, 31, 254}, .ports = {}}};
}

TEST_CASE("a network's rules are one transaction that replaces what there is") {
  const std::string text = rules_text("hummingbird_x_3", network(), leases());
  CHECK(
      text.starts_with("add table inet hummingbird_x_3\ndelete table inet hummingbird_x_3\n"
                       "add table bridge hummingbird_x_3\ndelete table bridge hummingbird_x_3\n"
                       "table inet hummingbird_x_3 {\n"));
  CHECK(has(text, "elements = { tcp . 8080 : 10.20.16.2 . 80 }"));
  CHECK(has(text, "elements = { 192.0.2.1 . udp . 53 : 10.20.16.2 . 5353 }"));
  CHECK(has(text, R"(elements = { "hum3v1" . 02:00:00:00:00:01, "hum3v2" . 02:00:00:00:00:02 })"));
  CHECK(has(text, R"(elements = { "hum3v1" . 10.20.16.2, "hum3v2" . 10.20.31.254 })"));
  CHECK(rules_table("x", 3) == "hummingbird_x_3");
}

TEST_CASE("the rules of a network without VMs have no empty lists, which nft does not read") {
  CHECK_FALSE(has(rules_text("t", network(), {}), "elements"));
}

TEST_CASE("dnsmasq gives a VM's address and name, with a dot only below the network's domain") {
  CHECK(dnsmasq_leases(network(), leases()) ==
        "02:00:00:00:00:01,10.20.16.2,one.vm.example\n02:00:00:00:00:02,10.20.31.254\n");
  CHECK(dnsmasq_names(network(), leases()) == "10.20.16.2 one.vm.example one\n10.20.31.254 a.b.vm.example\n");
}

TEST_CASE("dnsmasq serves the bridge alone, and asks nobody for a closed network") {
  NetworkSpec spec = network();
  const std::string open = dnsmasq_config(spec, "/run/hum/networks/3", "dnsmasq", "nogroup");
  for (const char* const line :
       {"\ninterface=hum3\n", "\nbind-interfaces\n", "\nexcept-interface=lo\n", "\nuser=dnsmasq\n",
        "\ndhcp-range=10.20.16.0,static,255.255.240.0,24h\n", "\naddn-hosts=/run/hum/networks/3/names\n"})
    CHECK(has(open, line));
  CHECK_FALSE(has(open, "\nno-resolv\n"));
  spec.nat = false;
  CHECK(has(dnsmasq_config(spec, "/run", "u", "g"), "\nno-resolv\n"));
}

}  // namespace
}  // namespace hum
