// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_spec.h"

#include <algorithm>
#include <functional>
#include <set>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

// The key and the message; empty: nothing was thrown.
std::string refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const ConfigError& error) {
    return error.key() + "|" + error.what();
  }
  return {};
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

NetworkSpec network(const std::string& subnet = "10.20.30.0/24") {
  return {.id = 3,
          .name = "blue",
          .subnet = parse_subnet("subnet", subnet),
          .nat = true,
          .dns_domain = "hum.internal"};
}

Lease lease(std::uint64_t vm, std::uint8_t last, const std::string& name) {
  return {.vm = vm, .name = name, .mac = lease_mac(3, vm), .address = {10, 20, 30, last}, .ports = {}};
}

TEST_CASE("a subnet is read as it is written") {
  CHECK(parse_subnet("subnet", "10.20.30.0/24") == Subnet{{10, 20, 30, 0}, 24});
  for (const char* text : {"10.0.0.0/16", "10.255.255.248/29", "172.16.0.0/16", "172.31.255.0/24",
                           "192.168.0.0/16", "100.64.0.0/16", "100.127.255.0/24"}) {
    CAPTURE(text);
    CHECK(parse_subnet("subnet", text).text() == text);
  }
}

TEST_CASE("what is no subnet, or no private one, is refused with what to give") {
  for (const char* text : {"",
                           "10.20.30.0",
                           "10.20.30.0/",
                           "10.20.30/24",
                           "10.20.30.0/24 ",
                           "10.20.30.0/+24",
                           "10.20.30.0/x",
                           "10.20.30.256/24",
                           "fd00::/64",
                           "a/24",
                           "10.0.0.0/15",
                           "10.0.0.0/30",
                           "10.0.0.0/-1",
                           "10.20.30.1/24",
                           "10.1.0.0/16/16",
                           "11.0.0.0/24",
                           "172.15.0.0/16",
                           "172.32.0.0/16",
                           "192.167.255.0/24",
                           "100.63.0.0/16",
                           "100.128.0.0/16",
                           "127.0.0.0/24",
                           "0.0.0.0/16",
                           "10.0.0.0/99999999999"}) {
    CAPTURE(text);
    const std::string message = refusal([&] { parse_subnet("networks.blue.subnet", text); });
    CHECK(message.starts_with("networks.blue.subnet|"));
    CHECK(has(message, "give "));
  }
  CHECK(has(refusal([] { parse_subnet("subnet", "10.20.30.17/28"); }), "give 10.20.30.16/28"));
}

TEST_CASE("subnets overlap where one has the other's addresses") {
  const auto subnet = [](const char* text) { return parse_subnet("subnet", text); };
  CHECK(subnet("10.1.0.0/16").overlaps(subnet("10.1.255.0/24")));
  CHECK(subnet("10.1.255.0/24").overlaps(subnet("10.1.0.0/16")));
  CHECK_FALSE(subnet("10.1.0.0/24").overlaps(subnet("10.1.1.0/24")));
  CHECK(Subnet{{0, 0, 0, 0}, 0}.overlaps(subnet("10.1.0.0/24")));
  CHECK(Subnet{{10, 1, 0, 77}, 32}.overlaps(subnet("10.1.0.0/24")));
}

TEST_CASE("the host has a network's first address, VMs those behind it but for the last") {
  CHECK(gateway_address(network()) == Ipv4Address{10, 20, 30, 1});
  CHECK(vm_addresses(network()).first == Ipv4Address{10, 20, 30, 2});
  CHECK(vm_addresses(network()).last == Ipv4Address{10, 20, 30, 254});
  CHECK(vm_addresses(network("10.20.30.8/29")).last == Ipv4Address{10, 20, 30, 14});
  CHECK(vm_addresses(network("10.20.0.0/16")).last == Ipv4Address{10, 20, 255, 254});
}

TEST_CASE("the lowest free address is given, and none where all are taken") {
  const NetworkSpec small = network("10.20.30.8/29");
  std::vector<Ipv4Address> used;
  for (std::uint8_t last = 10; last <= 14; ++last) {
    CHECK(first_free_address(small, used) == Ipv4Address{10, 20, 30, last});
    used.push_back({10, 20, 30, last});
  }
  CHECK(has(refusal([&] { first_free_address(small, used); }), "all addresses of 10.20.30.8/29"));
  used.erase(used.begin() + 2);
  CHECK(first_free_address(small, used) == Ipv4Address{10, 20, 30, 12});
}

TEST_CASE("a VM's address in a network is local, its own, and always the same") {
  std::set<std::string> seen;
  for (std::uint64_t each = 0; each < 1000; ++each) {
    const MacAddress mac = lease_mac(each % 10, each / 10);
    CHECK((mac.bytes[0] & 3) == 2);
    seen.insert(mac.text());
  }
  CHECK(seen.size() == 1000);
  // Of VMs that there are: this must not change.
  CHECK(lease_mac(3, 17).text() == "96:81:2b:ca:02:a5");
  CHECK(lease_mac(1, 12) != lease_mac(11, 2));
}

TEST_CASE("interfaces' names have at most 15 characters") {
  CHECK(bridge_name(3) == "hum3");
  CHECK(tap_name(3, 17) == "hum3v17");
  CHECK(bridge_name(999999999999) == "hum999999999999");
  CHECK(has(refusal([] { bridge_name(1000000000000); }), "too large"));
  CHECK(tap_name(1, 9999999999) == "hum1v9999999999");
  CHECK(has(refusal([] { tap_name(1, 10000000000); }), "too large"));
}

TEST_CASE("names are plain") {
  for (const char* name : {"a", "7a", "web-1", "a.b_c-d"})
    CHECK(refusal([&] { check_name("vm", name); }).empty());
  CHECK(refusal([] { check_name("vm", std::string(63, 'a')); }).empty());
  CHECK(refusal([] { check_name("vm", std::string(64, 'a')); }).starts_with("vm|"));
  for (const char* name :
       {"", "7", "A", "-a", ".a", "_a", "a b", "a/b", "a,b", "a\nb", "../x", "ä", "a;b", "$a"}) {
    CAPTURE(name);
    CHECK(refusal([&] { check_name("vm", name); }).starts_with("vm|"));
  }
}

TEST_CASE("a domain has labels, and is not multicast DNS's") {
  for (const char* domain : {"hum.internal", "vm", "a-b.c1.d"})
    CHECK(refusal([&] { check_dns_domain("dns_domain", domain); }).empty());
  for (const std::string& domain :
       {std::string(), std::string("."), std::string("a."), std::string(".a"), std::string("a..b"),
        std::string("-a"), std::string("a-"), std::string("a_b"), std::string("A"), std::string("a b"),
        std::string("a\nuser=root"), std::string("local"), std::string("x.local"), std::string(64, 'a'),
        std::string(63, 'a') + "." + std::string(63, 'b') + "." + std::string(63, 'c')}) {
    CAPTURE(domain);
    CHECK(refusal([&] { check_dns_domain("dns_domain", domain); }).starts_with("dns_domain|"));
  }
}

TEST_CASE("a network is refused where its subnet or name is another's") {
  const NetworkSpec green{.id = 4,
                          .name = "green",
                          .subnet = parse_subnet("subnet", "10.20.0.0/20"),
                          .nat = true,
                          .dns_domain = "g"};
  const Subnet route{{10, 20, 30, 128}, 25};
  CHECK(refusal([&] { check_network(network(), {{green}}, {}); }).empty());
  CHECK(has(refusal([&] { check_network(network(), {}, {{route}}); }), "route to 10.20.30.128/25"));
  CHECK(has(refusal([&] { check_network(network("10.20.15.0/24"), {{green}}, {}); }), "network 'green'"));
  CHECK(refusal([&] { check_network(network("10.20.16.0/24"), {{green}}, {}); }).empty());
  NetworkSpec same = network();
  same.name = "green";
  CHECK(refusal([&] { check_network(same, {{green}}, {}); }).starts_with("name|"));
  same.name = "Green";
  CHECK(refusal([&] { check_network(same, {}, {}); }).starts_with("name|"));
  same = network();
  same.subnet = {{8, 8, 8, 0}, 24};
  CHECK(refusal([&] { check_network(same, {}, {}); }).starts_with("subnet|"));
}

TEST_CASE("leases are refused where two VMs share what each needs for itself") {
  const auto check = [](const std::function<void(Lease&)>& change) {
    std::vector<Lease> leases = {lease(1, 2, "one"), lease(2, 3, "two")};
    change(leases[1]);
    return refusal([&] { check_leases(network(), leases); });
  };
  CHECK(check([](Lease&) {}).empty());
  CHECK(check([](Lease& two) { two.vm = 1; }).starts_with("vm|"));
  CHECK(check([](Lease& two) { two.name = "one"; }).starts_with("vm|"));
  CHECK(check([](Lease& two) { two.name = "a,b"; }).starts_with("vm|"));
  CHECK(check([](Lease& two) { two.mac = lease_mac(3, 1); }).starts_with("mac|"));
  CHECK(check([](Lease& two) { two.mac = {}; }).starts_with("mac|"));
  CHECK(check([](Lease& two) { two.address = {10, 20, 30, 2}; }).starts_with("address|"));
  for (const Ipv4Address address :
       {Ipv4Address{10, 20, 30, 0}, {10, 20, 30, 1}, {10, 20, 30, 255}, {10, 20, 31, 2}})
    CHECK(check([&](Lease& two) { two.address = address; }).starts_with("address|"));
  CHECK(check([&](Lease& two) { two.address = {10, 20, 30, 254}; }).empty());
}

TEST_CASE("a port is published once, by IPv4, and not from a closed network") {
  using enum PublishedPort::Protocol;
  NetworkSpec spec = network();
  const auto check = [&](const PublishedPort& of_one, const PublishedPort& of_two) {
    std::vector<Lease> leases = {lease(1, 2, "one"), lease(2, 3, "two")};
    leases[0].ports = {of_one};
    leases[1].ports = {of_two};
    return refusal([&] { check_leases(spec, leases); });
  };
  const PublishedPort web{.address = {}, .host = 8080, .guest = 80, .protocol = tcp};
  CHECK(check(web, {.address = {}, .host = 8081, .guest = 80, .protocol = tcp}).empty());
  CHECK(check(web, {.address = {}, .host = 8080, .guest = 80, .protocol = udp}).empty());
  CHECK(has(check(web, {.address = "127.0.0.1", .host = 8080, .guest = 81, .protocol = tcp}), "VM 'one'"));
  CHECK(has(check(web, {.address = "::1", .host = 1, .guest = 1, .protocol = tcp}), "IPv4"));
  CHECK(has(check(web, {.address = "x;y", .host = 1, .guest = 1, .protocol = tcp}), "IPv4"));
  CHECK(has(check(web, {.address = {}, .host = 0, .guest = 1, .protocol = tcp}), "0 is no port"));
  spec.nat = false;
  CHECK(has(check(web, web), "closed"));
}

}  // namespace
}  // namespace hum
