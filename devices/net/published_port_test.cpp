// SPDX-License-Identifier: Apache-2.0
#include "devices/net/published_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "devices/virtio_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using Protocol = PublishedPort::Protocol;
using testing::config_error_of;
using testing::contains;

PublishedPort one(std::string_view text) {
  const auto ports = parse_published_ports("net.publish", text);
  REQUIRE(ports.size() == 1);
  return ports.front();
}

std::string error_of(std::string_view text) {
  return config_error_of([&] { parse_published_ports("net.publish", text); });
}

// A socket at a free port of the loopback address.
struct Taken {
  explicit Taken(int type) : socket(::socket(AF_INET, type | SOCK_CLOEXEC, 0)) {
    // As passt does; two sockets of UDP that both do share a port.
    const int on = 1;
    REQUIRE(::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    sockaddr_in place{};
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&place), sizeof place) == 0);
    if (type == SOCK_STREAM) REQUIRE(::listen(socket.get(), 1) == 0);
    socklen_t size = sizeof place;
    REQUIRE(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&place), &size) == 0);
    port = ntohs(place.sin_port);
  }
  Fd socket;
  std::uint16_t port = 0;
};

}  // namespace

TEST_CASE("a published port is host and guest, with an address before and a protocol behind") {
  CHECK(one("8080:80") == PublishedPort{"", 8080, 80, Protocol::tcp});
  CHECK(one("8080:80/tcp") == one("8080:80"));
  CHECK(one("1:65535/udp") == PublishedPort{"", 1, 65535, Protocol::udp});
  CHECK(one("127.0.0.1:8080:80") == PublishedPort{"127.0.0.1", 8080, 80, Protocol::tcp});
  CHECK(one("[::1]:53:5353/udp") == PublishedPort{"::1", 53, 5353, Protocol::udp});
}

TEST_CASE("a published port is written as it is read") {
  for (const char* text : {"8080:80", "127.0.0.1:8080:80", "[fe80::1]:53:5353/udp"})
    CHECK(one(text).text() == text);
}

TEST_CASE("several published ports are joined by '+'") {
  const auto ports = parse_published_ports("net.publish", "80:80+127.0.0.1:81:81+80:80/udp");
  REQUIRE(ports.size() == 3);
  CHECK(ports[1].text() == "127.0.0.1:81:81");
  CHECK(ports[2].text() == "80:80/udp");
}

TEST_CASE("what is wrong with a published port is named by its part") {
  CHECK(contains(error_of("8080"), "net.publish '8080': names one port alone"));
  CHECK(contains(error_of(""), "names one port alone"));
  CHECK(contains(error_of("80:80+"), "names one port alone"));
  CHECK(contains(error_of("0:80"), "the host's port '0'"));
  CHECK(contains(error_of("65536:80"), "the host's port '65536'"));
  CHECK(contains(error_of("80:0"), "the guest's port '0'"));
  CHECK(contains(error_of("80:65536"), "the guest's port '65536'"));
  CHECK(contains(error_of("80:http"), "the guest's port 'http'"));
  CHECK(contains(error_of("80-90:80"), "the host's port '80-90'"));
  CHECK(contains(error_of(" 80:80"), "the host's port ' 80'"));
  CHECK(contains(error_of("80:80/sctp"), "the protocol 'sctp'"));
  CHECK(contains(error_of("80:80/"), "the protocol ''"));
  CHECK(contains(error_of("localhost:80:80"), "'localhost' is not an IPv4 address"));
  CHECK(contains(error_of("::1:80:80"), "brackets"));
  CHECK(contains(error_of("[::1:80:80"), "no ']:'"));
  CHECK(contains(error_of("[127.0.0.1]:80:80"), "'127.0.0.1' is not an IPv6 address"));
  CHECK(contains(error_of("[]:80:80"), "'' is not an IPv6 address"));
}

TEST_CASE("a port of the host is published once for each protocol, whatever the address") {
  CHECK(parse_published_ports("net.publish", "80:80+80:80/udp").size() == 2);
  CHECK(contains(error_of("80:80+80:81"), "published twice"));
  CHECK(contains(error_of("127.0.0.1:80:80+[::1]:80:80"), "published twice"));
}

TEST_CASE("a port that another program has is found in use, at its address and at all of them") {
  const int type = GENERATE(SOCK_STREAM, SOCK_DGRAM);
  const Protocol protocol = type == SOCK_STREAM ? Protocol::tcp : Protocol::udp;
  std::uint16_t number = 0;
  {
    const Taken taken(type);
    number = taken.port;
    for (const char* address : {"127.0.0.1", ""}) {
      const PublishedPort port{address, number, 80, protocol};
      const std::string error = config_error_of([&] { check_port_is_free("net.publish", port); });
      CHECK(contains(error, "net.publish '" + port.text() + "'"));
      CHECK(contains(error, std::to_string(number) + " is in use; give another port"));
    }
    check_port_is_free("net.publish", {"127.0.0.2", number, 80, protocol});
  }
  check_port_is_free("net.publish", {"127.0.0.1", number, 80, protocol});
}

TEST_CASE("an address that the host does not have is told") {
  CHECK(contains(
      config_error_of([] { check_port_is_free("net.publish", {"192.0.2.77", 8080, 80, Protocol::tcp}); }),
      "the host has no address 192.0.2.77"));
}

}  // namespace hum
