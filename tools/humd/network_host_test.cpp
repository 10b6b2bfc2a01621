// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_host.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>

#include "tools/humd/network_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using testing::Machine;
using testing::TestHost;
using testing::with_network_host;

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// The end of a VM's tap stands for the tap.
std::unique_ptr<Machine> vm_in(const TestHost& test, const Lease& lease) {
  const std::string tap = tap_name(test.spec.id, lease.vm);
  auto machine = std::make_unique<Machine>(lease.name, tap, lease.mac);
  links::set_bridge(links::find(tap)->index, links::find(bridge_name(test.spec.id))->index);
  return machine;
}

// A machine beside the host, which knows the way to its VMs.
std::unique_ptr<Machine> outside() {
  auto machine = std::make_unique<Machine>("outside", "out0");
  testing::output_of({"ip", "addr", "add", "203.0.113.1/24", "dev", "out0"});
  machine->run({"ip", "addr", "add", "203.0.113.2/24", "dev", "eth0"});
  return machine;
}

std::string refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const HostError& error) {
    return error.what();
  }
  return {};
}

TEST_CASE("VMs of a network get their addresses and reach each other by name") {
  with_network_host([](TestHost& test) {
    test.host().ensure_network(test.spec, test.leases);
    const auto one = vm_in(test, test.leases[0]);
    const auto two = vm_in(test, test.leases[1]);
    CHECK(one->lease(test.folder) ==
          "10.20.30.2 router 10.20.30.1 dns 10.20.30.1 domain hum.internal name one");
    CHECK(two->lease(test.folder) ==
          "10.20.30.3 router 10.20.30.1 dns 10.20.30.1 domain hum.internal name two");
    for (const char* const name : {"two", "two.hum.internal"})
      one->in([&] { CHECK(testing::resolve(name, "10.20.30.1") == "10.20.30.3"); });
    CHECK(one->ask("10.20.30.3", 80) == "two");
    CHECK(two->ask("10.20.30.2", 80) == "one");
    // Guests speak to it: it is not root.
    const std::string status =
        read_text_file("/proc/" + std::to_string(test.servers().at(0)) + "/status").value();
    CHECK_FALSE(has(status, "Uid:\t0"));
    // Again, and the same.
    CHECK(has(one->lease(test.folder), "10.20.30.2 "));
  });
}

TEST_CASE("a VM that comes is known at once, and the address of one that went is another's") {
  with_network_host([](TestHost& test) {
    NetworkHost host = test.host();
    host.ensure_network(test.spec, {test.leases.data(), 1});
    const auto servers = test.servers();
    CHECK(testing::resolve("two.hum.internal", "10.20.30.1").empty());
    const auto two = vm_in(test, test.leases[1]);
    CHECK(two->lease(test.folder).empty());

    host.ensure_network(test.spec, test.leases);
    CHECK(test.servers() == servers);
    CHECK(testing::comes_true(
        [] { return testing::resolve("two.hum.internal", "10.20.30.1") == "10.20.30.3"; }));
    CHECK(has(two->lease(test.folder), "10.20.30.3 "));

    // Its lease has most of a day left.
    test.leases[1] = {
        .vm = 7, .name = "seven", .mac = lease_mac(test.spec.id, 7), .address = {10, 20, 30, 3}, .ports = {}};
    host.ensure_network(test.spec, test.leases);
    const auto seven = vm_in(test, test.leases[1]);
    CHECK(has(seven->lease(test.folder), "10.20.30.3 "));
    CHECK(testing::resolve("seven.hum.internal", "10.20.30.1") == "10.20.30.3");
    CHECK(testing::resolve("two.hum.internal", "10.20.30.1").empty());
  });
}

TEST_CASE("a VM's name is never taken for anything else") {
  with_network_host([](TestHost& test) {
    test.leases[0].name = "infinite";
    test.leases[1].name = "example.com";
    test.host().ensure_network(test.spec, test.leases);
    const auto one = vm_in(test, test.leases[0]);
    const auto two = vm_in(test, test.leases[1]);
    CHECK(has(one->lease(test.folder),
              "10.20.30.2 router 10.20.30.1 dns 10.20.30.1 domain hum.internal name infinite"));
    CHECK(has(two->lease(test.folder), "10.20.30.3 "));
    CHECK(testing::resolve("infinite", "10.20.30.1") == "10.20.30.2");
    CHECK(testing::resolve("example.com.hum.internal", "10.20.30.1") == "10.20.30.3");
    CHECK(testing::resolve("example.com", "10.20.30.1").empty());
  });
}

TEST_CASE("no other process gets a signal, whatever number the file has") {
  with_network_host([](TestHost& test) {
    NetworkHost host = test.host();
    NetworkSpec other = test.spec;
    other.id = 5;
    other.subnet = {{10, 20, 35, 0}, 24};
    host.ensure_network(other, {});
    const auto of_other = test.servers();
    REQUIRE(of_other.size() == 1);
    host.ensure_network(test.spec, test.leases);
    for (const std::string& content : {std::to_string(of_other[0]) + "\n", std::to_string(::getpid()) + "\n",
                                       std::string("1\n"), std::string("0\n"), std::string("-1\n"),
                                       std::string("99999999999\n"), std::string("x"), std::string()}) {
      CAPTURE(content);
      std::ofstream(test.folder / "networks/3/dnsmasq.pid") << content;
      host.ensure_network(test.spec, test.leases);
      CHECK(test.servers().size() == 2);
      CHECK(std::ranges::count(test.servers(), of_other[0]) == 1);
    }
    host.remove_network(3);
    CHECK(test.servers() == of_other);
    host.remove_network(5);
  });
}

TEST_CASE("a network that cannot be is refused before anything is changed") {
  with_network_host([](TestHost& test) {
    const auto fails = [&] {
      try {
        test.host().ensure_network(test.spec, test.leases);
      } catch (const ConfigError&) {
        return true;
      }
      return false;
    };
    SECTION("its name") {
      test.spec.name = "a\nuser=root";
    }
    SECTION("its domain") {
      test.spec.dns_domain = "a b";
    }
    SECTION("its subnet") {
      test.spec.subnet.prefix = 8;
    }
    SECTION("a VM's name") {
      test.leases[0].name = "a b";
    }
    SECTION("a port") {
      test.leases[0].ports[0].address = "\" drop";
    }
    CHECK(fails());
    CHECK(test.leftovers() == "");
  });
}

TEST_CASE("dnsmasq's own words are told where it does not start") {
  with_network_host([](TestHost& test) {
    SECTION("its port is taken") {
      const Fd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in place{};
      place.sin_family = AF_INET;
      place.sin_port = htons(53);
      REQUIRE(::bind(server.get(), reinterpret_cast<const sockaddr*>(&place), sizeof place) == 0);
      REQUIRE(::listen(server.get(), 1) == 0);
      CHECK(has(refusal([&] { test.host().ensure_network(test.spec, test.leases); }), "in use"));
    }
    SECTION("its user cannot reach its files") {
      std::filesystem::permissions(test.folder.path(), std::filesystem::perms{0700});
      CHECK(has(refusal([&] { test.host().ensure_network(test.spec, test.leases); }),
                "chmod o+x " + test.folder.path()));
      std::filesystem::permissions(test.folder.path(), std::filesystem::perms{0755});
    }
    test.host().ensure_network(test.spec, test.leases);
    CHECK(test.servers().size() == 1);
  });
}

TEST_CASE("a network with nat reaches out, and is reached at its published ports alone") {
  with_network_host([](TestHost& test) {
    test.host().ensure_network(test.spec, test.leases);
    const auto one = vm_in(test, test.leases[0]);
    const auto two = vm_in(test, test.leases[1]);
    const auto out = outside();
    one->lease(test.folder);
    two->lease(test.folder);

    // Without a way back of its own: it was asked by the host's address.
    CHECK(one->ask("203.0.113.2", 80) == "outside");
    CHECK(one->reaches("203.0.113.2"));
    out->run({"ip", "route", "add", "10.20.30.0/24", "via", "203.0.113.1"});
    CHECK_FALSE(out->reaches("10.20.30.2"));
    CHECK(out->ask("10.20.30.2", 80).empty());

    for (const bool udp : {false, true}) {
      CAPTURE(udp);
      CHECK(out->ask("203.0.113.1", 8080, udp) == "one");
      // From the host itself, by each of its addresses.
      for (const char* const address : {"203.0.113.1", "10.20.30.1", "127.0.0.1"})
        CHECK(testing::ask_server(address, 8080, udp) == "one");
      CHECK(two->ask("203.0.113.1", 8080, udp) == "one");
    }
    CHECK(out->ask("203.0.113.1", 8081).empty());
    // Also from the VM itself, but where rules for routed packets see bridged ones as well (br_netfilter): a
    // bridge returns no frame to the port that it came from.
    {
      std::ofstream("/proc/sys/net/bridge/bridge-nf-call-iptables") << "0";
      CHECK(one->ask("203.0.113.1", 8080) == "one");
      CHECK(two->ask("203.0.113.1", 8080) == "one");
    }

    test.leases[0].ports.clear();
    test.leases[1].ports = {
        {.address = "203.0.113.1", .host = 8080, .guest = 80, .protocol = PublishedPort::Protocol::tcp}};
    test.host().ensure_network(test.spec, test.leases);
    CHECK(out->ask("203.0.113.1", 8080) == "two");
    CHECK(testing::ask_server("10.20.30.1", 8080).empty());
  });
}

TEST_CASE("a VM does not reach what the host keeps for itself by the way its published ports take") {
  with_network_host([](TestHost& test) {
    test.host().ensure_network(test.spec, test.leases);
    const auto one = vm_in(test, test.leases[0]);
    one->lease(test.folder);
    const Fd server(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_in place{
        .sin_family = AF_INET, .sin_port = htons(9999), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    REQUIRE(::bind(server.get(), reinterpret_cast<const sockaddr*>(&place), sizeof place) == 0);
    one->run({"ip", "route", "add", "127.0.0.1", "via", "10.20.30.1", "dev", "eth0"});
    one->run({"ip", "route", "del", "table", "local", "127.0.0.0/8", "dev", "lo"});
    one->run({"ip", "route", "del", "table", "local", "127.0.0.1", "dev", "lo"});
    one->in([] { std::ofstream("/proc/sys/net/ipv4/conf/all/route_localnet") << "1"; });
    const auto arrives = [&] {
      one->in([] { testing::ask_server("127.0.0.1", 9999, true); });
      char byte = 0;
      return ::recv(server.get(), &byte, 1, 0) == 1;
    };
    CHECK_FALSE(arrives());
    // So it would without the rule.
    testing::output_of({"nft", "flush", "chain", "inet", "hummingbird_test_3", "first"});
    CHECK(arrives());
  });
}

TEST_CASE("a closed network has no way out") {
  with_network_host([](TestHost& test) {
    test.spec.nat = false;
    test.leases[0].ports.clear();
    test.host().ensure_network(test.spec, test.leases);
    CHECK(test.state().find("forwarding") == std::string::npos);
    const auto one = vm_in(test, test.leases[0]);
    const auto two = vm_in(test, test.leases[1]);
    const auto out = outside();
    CHECK(one->lease(test.folder) == "10.20.30.2 router  dns 10.20.30.1 domain hum.internal name one");
    two->lease(test.folder);
    CHECK(one->ask("10.20.30.3", 80) == "two");
    // Though the host forwards, and the VM has found the way.
    std::ofstream("/proc/sys/net/ipv4/ip_forward") << "1";
    one->run({"ip", "route", "add", "default", "via", "10.20.30.1"});
    out->run({"ip", "route", "add", "10.20.30.0/24", "via", "203.0.113.1"});
    CHECK_FALSE(one->reaches("203.0.113.2"));
    CHECK_FALSE(out->reaches("10.20.30.2"));
    std::ofstream("/proc/sys/net/ipv4/ip_forward") << "0";
  });
}

TEST_CASE("networks do not reach each other but by published ports") {
  with_network_host([](TestHost& test) {
    test.host().ensure_network(test.spec, test.leases);
    const auto one = vm_in(test, test.leases[0]);
    const auto out = outside();
    one->lease(test.folder);
    {
      TestHost green;
      green.spec.id = 4;
      green.spec.name = "green";
      green.spec.subnet = {{10, 20, 31, 0}, 24};
      green.leases = {
          {.vm = 9, .name = "nine", .mac = lease_mac(4, 9), .address = {10, 20, 31, 2}, .ports = {}}};
      green.host().ensure_network(green.spec, green.leases);
      const auto nine = vm_in(green, green.leases[0]);
      CHECK(has(nine->lease(green.folder), "10.20.31.2 "));
      CHECK(nine->reaches("203.0.113.2"));
      CHECK_FALSE(one->reaches("10.20.31.2"));
      CHECK_FALSE(nine->reaches("10.20.30.2"));
      CHECK_FALSE(nine->reaches("10.20.30.1"));
      CHECK(nine->reaches("10.20.31.1"));
      nine->in([] { CHECK(testing::resolve("one.hum.internal", "10.20.30.1").empty()); });
      CHECK(nine->ask("203.0.113.1", 8080) == "one");
      green.host().remove_network(4);
    }
    CHECK(one->reaches("203.0.113.2"));
  });
}

TEST_CASE("a VM sends with its own addresses alone") {
  with_network_host([](TestHost& test) {
    test.host().ensure_network(test.spec, test.leases);
    const auto one = vm_in(test, test.leases[0]);
    const auto two = vm_in(test, test.leases[1]);
    one->lease(test.folder);
    two->lease(test.folder);
    REQUIRE(one->reaches("10.20.30.3"));
    SECTION("another IPv4 address") {
      one->run({"ip", "addr", "add", "10.20.30.9/24", "dev", "eth0"});
      CHECK(one->run({"busybox", "ping", "-c", "1", "-W", "1", "-I", "10.20.30.9", "10.20.30.3"}).empty());
      CHECK(one->reaches("10.20.30.3"));
    }
    SECTION("another's ARP answers") {
      one->run({"ip", "addr", "add", "10.20.30.1/24", "dev", "eth0"});
      two->run({"ip", "neigh", "flush", "all"});
      CHECK(two->reaches("10.20.30.1"));
      CHECK(has(two->run({"ip", "neigh", "show", "10.20.30.1"}), links::find("hum3")->mac.text()));
    }
    SECTION("another MAC") {
      one->run({"ip", "link", "set", "eth0", "address", "02:00:00:00:00:07"});
      CHECK_FALSE(one->reaches("10.20.30.3"));
    }
    SECTION("IPv6") {
      one->run({"ip", "-6", "addr", "add", "fd00::1/64", "dev", "eth0", "nodad"});
      two->run({"ip", "-6", "addr", "add", "fd00::2/64", "dev", "eth0", "nodad"});
      CHECK_FALSE(one->reaches("fd00::2"));
    }
  });
}

TEST_CASE("taps belong to their user and stay in the bridge") {
  with_network_host([](TestHost& test) {
    NetworkHost host = test.host();
    CHECK(has(refusal([&] { host.ensure_tap(3, {.vm = 1, .owner = 0}); }), "start the network first"));
    host.ensure_network(test.spec, test.leases);
    CHECK(host.ensure_tap(3, {.vm = 1, .owner = 1234}) == "hum3v1");
    const auto tap = links::find("hum3v1");
    REQUIRE(tap);
    CHECK(tap->owner == 1234u);
    CHECK_FALSE(tap->multi_queue);
    CHECK(tap->up);
    CHECK(tap->bridge == links::find("hum3")->index);
    CHECK(tap->alias == "hummingbird VM 1, hummingbird network 3 of test");

    host.ensure_tap(3, {.vm = 1, .owner = 1234});
    CHECK(links::find("hum3v1")->index == tap->index);
    testing::output_of({"ip", "link", "set", "hum3v1", "nomaster", "down"});
    host.ensure_tap(3, {.vm = 1, .owner = 1234});
    CHECK(links::find("hum3v1")->index == tap->index);
    CHECK(links::find("hum3v1")->up);
    CHECK(links::find("hum3v1")->bridge == tap->bridge);

    host.ensure_tap(3, {.vm = 1, .owner = 1235, .multi_queue = true});
    CHECK(links::find("hum3v1")->owner == 1235u);
    CHECK(links::find("hum3v1")->multi_queue);

    host.remove_tap(3, 1);
    host.remove_tap(3, 1);
    CHECK_FALSE(links::find("hum3v1"));
  });
}

TEST_CASE("what is right stays as it is") {
  with_network_host([](TestHost& test) {
    NetworkHost host = test.host();
    host.ensure_network(test.spec, test.leases);
    host.ensure_tap(3, {.vm = 1, .owner = 0});
    const std::string state = test.state();
    const auto servers = test.servers();
    const int bridge = links::find("hum3")->index;
    std::vector<std::string> changes;
    NetworkHost again = test.host([&](std::string_view change) { changes.emplace_back(change); });
    again.ensure_network(test.spec, test.leases);
    again.ensure_tap(3, {.vm = 1, .owner = 0});
    CHECK(test.state() == state);
    CHECK(test.servers() == servers);
    CHECK(links::find("hum3")->index == bridge);
    // The rules are replaced by the same in one transaction.
    CHECK(changes == std::vector<std::string>{"apply rules", "have dnsmasq read its files"});
  });
}

TEST_CASE("what somebody has broken is mended") {
  with_network_host([](TestHost& test) {
    NetworkHost host = test.host();
    const auto ensure = [&] {
      host.ensure_network(test.spec, test.leases);
      host.ensure_tap(3, {.vm = 1, .owner = 0});
    };
    ensure();
    const std::string state = test.state();
    const auto run = [](const std::vector<std::string>& words) { testing::output_of(words); };
    SECTION("the bridge's address") {
      run({"ip", "addr", "flush", "dev", "hum3"});
    }
    SECTION("one more address") {
      run({"ip", "addr", "add", "10.9.9.9/24", "dev", "hum3"});
    }
    SECTION("the bridge") {
      run({"ip", "link", "delete", "hum3"});
    }
    SECTION("the bridge is down") {
      run({"ip", "link", "set", "hum3", "down"});
    }
    SECTION("the bridge's mark") {
      run({"ip", "link", "set", "hum3", "alias", ""});
    }
    SECTION("a tap") {
      run({"ip", "link", "delete", "hum3v1"});
    }
    SECTION("one table") {
      run({"nft", "delete", "table", "bridge", "hummingbird_test_3"});
    }
    SECTION("all rules") {
      run({"nft", "flush", "ruleset"});
    }
    SECTION("dnsmasq") {
      ::kill(test.servers().at(0), SIGKILL);
      CHECK(testing::comes_true([&] { return test.servers().empty(); }));
    }
    SECTION("dnsmasq's number is another's") {
      std::ofstream(test.folder / "networks/3/dnsmasq.pid") << ::getpid() << "\n";
    }
    SECTION("its files") {
      std::ofstream(test.folder / "networks/3/leases") << "nonsense\n";
    }
    SECTION("forwarding") {
      std::ofstream("/proc/sys/net/ipv4/ip_forward") << "0";
    }
    ensure();
    CHECK(test.state() == state);
    CHECK(testing::comes_true(
        [] { return testing::resolve("two.hum.internal", "10.20.30.1") == "10.20.30.3"; }));
  });
}

TEST_CASE("nothing is left of a network that was removed, and to remove it again is no error") {
  with_network_host([](TestHost& test) {
    NetworkHost host = test.host();
    host.ensure_network(test.spec, test.leases);
    host.ensure_tap(3, {.vm = 1, .owner = 0});
    host.ensure_tap(3, {.vm = 2, .owner = 0});
    CHECK_FALSE(test.leftovers().empty());
    host.remove_network(3);
    CHECK(test.leftovers() == "");
    host.remove_network(3);
    CHECK(test.leftovers() == "");
  });
}

TEST_CASE("forwarding is as it was when the last network has gone") {
  with_network_host([](TestHost& test) {
    const auto forwards = [] { return read_text_file("/proc/sys/net/ipv4/ip_forward") == "1\n"; };
    NetworkHost host = test.host();
    NetworkSpec other = test.spec;
    other.id = 5;
    other.subnet = {{10, 20, 35, 0}, 24};
    host.ensure_network(test.spec, test.leases);
    CHECK(forwards());
    host.ensure_network(other, {});
    host.remove_network(3);
    CHECK(forwards());
    host.remove_network(5);
    CHECK_FALSE(forwards());

    std::ofstream("/proc/sys/net/ipv4/ip_forward") << "1";
    host.ensure_network(test.spec, test.leases);
    host.remove_network(3);
    CHECK(forwards());
    std::ofstream("/proc/sys/net/ipv4/ip_forward") << "0";
  });
}

TEST_CASE("somebody else's interfaces are refused and stay") {
  with_network_host([](TestHost& test) {
    NetworkHost host = test.host();
    SECTION("a bridge") {
      testing::make_bridge("hum3");
    }
    SECTION("another daemon's bridge") {
      testing::make_bridge("hum3");
      links::set_alias(links::find("hum3")->index, "hummingbird network 3 of another");
    }
    SECTION("a tap") {
      testing::make_tap("hum3");
    }
    const int index = links::find("hum3")->index;
    CHECK(has(refusal([&] { host.ensure_network(test.spec, test.leases); }), "not this daemon's"));
    CHECK(has(refusal([&] { host.ensure_tap(3, {.vm = 1, .owner = 0}); }), "start the network first"));
    host.remove_network(3);
    CHECK(links::find("hum3")->index == index);
    links::remove(index);

    host.ensure_network(test.spec, test.leases);
    testing::make_tap("hum3v1");
    const int tap = links::find("hum3v1")->index;
    CHECK(has(refusal([&] { host.ensure_tap(3, {.vm = 1, .owner = 0}); }), "not this daemon's"));
    host.remove_tap(3, 1);
    host.remove_network(3);
    CHECK(links::find("hum3v1")->index == tap);
  });
}

TEST_CASE("the host's routes are those that are not our networks'") {
  with_network_host([](TestHost& test) {
    NetworkHost host = test.host();
    host.ensure_network(test.spec, test.leases);
    const auto out = outside();
    testing::output_of({"ip", "route", "add", "default", "via", "203.0.113.2"});
    CHECK(host.foreign_routes() == std::vector<Subnet>{{{203, 0, 113, 0}, 24}});
  });
}

}  // namespace
}  // namespace hum
