// SPDX-License-Identifier: Apache-2.0
#include "devices/net/published_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

using Protocol = PublishedPort::Protocol;

std::string_view to_string(Protocol protocol) {
  return protocol == Protocol::tcp ? "tcp" : "udp";
}

bool is_ipv6(std::string_view address) {
  return address.find(':') != std::string_view::npos;
}

// One port on its way from text; knows what to say where a part of it is wrong.
class Parser {
 public:
  Parser(std::string_view what, std::string_view text) : what_(what), text_(text), rest_(text) {}

  PublishedPort parse() {
    PublishedPort port;
    port.protocol = take_protocol();
    port.address = take_address();
    const std::size_t colon = rest_.find(':');
    if (colon == std::string_view::npos) fail("names one port alone");
    port.host = number(rest_.substr(0, colon), "the host's port");
    port.guest = number(rest_.substr(colon + 1), "the guest's port");
    return port;
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw ConfigError(
        std::string(what_), std::string(text_), problem,
        "give [ADDRESS:]HOST:GUEST[/udp], like 8080:80, 127.0.0.1:8080:80 or [::1]:5353:53/udp");
  }

  Protocol take_protocol() {
    const std::size_t slash = rest_.find('/');
    if (slash == std::string_view::npos) return Protocol::tcp;
    const std::string_view name = rest_.substr(slash + 1);
    rest_ = rest_.substr(0, slash);
    if (name == "udp") return Protocol::udp;
    if (name != "tcp") fail("the protocol '" + std::string(name) + "' is not tcp or udp");
    return Protocol::tcp;
  }

  std::string take_address() {
    std::string address;
    if (rest_.starts_with('[')) {
      const std::size_t end = rest_.find("]:");
      if (end == std::string_view::npos) fail("the address has no ']:' behind it");
      address = rest_.substr(1, end - 1);
      rest_ = rest_.substr(end + 2);
      in6_addr parsed{};
      if (::inet_pton(AF_INET6, address.c_str(), &parsed) != 1)
        fail("'" + address + "' is not an IPv6 address");
    } else if (std::count(rest_.begin(), rest_.end(), ':') > 1) {
      const std::size_t end = rest_.find(':');
      address = rest_.substr(0, end);
      rest_ = rest_.substr(end + 1);
      in_addr parsed{};
      if (::inet_pton(AF_INET, address.c_str(), &parsed) != 1)
        fail("'" + address + "' is not an IPv4 address (one of IPv6 stands in brackets)");
    }
    return address;
  }

  std::uint16_t number(std::string_view digits, const std::string& name) const {
    std::uint16_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size() || value == 0)
      fail(name + " '" + std::string(digits) + "' is not a number from 1 to 65535");
    return value;
  }

  std::string_view what_;
  std::string_view text_;
  std::string_view rest_;
};

// 0 or the errno. address: of the family, or empty for all of the family's.
int try_to_listen(int family, const std::string& address, const PublishedPort& port) {
  const bool tcp = port.protocol == Protocol::tcp;
  const Fd socket(::socket(family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
  if (!socket) return errno;
  const int on = 1;
  // What of TCP has ended and waits is in nobody's way. Of UDP the option would let two have the port.
  if (tcp) ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in6 place6{};
  sockaddr_in place4{};
  const sockaddr* place = reinterpret_cast<const sockaddr*>(&place6);
  socklen_t size = sizeof place6;
  if (family == AF_INET6) {
    ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    place6.sin6_family = AF_INET6;
    place6.sin6_port = htons(port.host);
    if (!address.empty()) ::inet_pton(AF_INET6, address.c_str(), &place6.sin6_addr);
  } else {
    place4.sin_family = AF_INET;
    place4.sin_port = htons(port.host);
    if (!address.empty()) ::inet_pton(AF_INET, address.c_str(), &place4.sin_addr);
    place = reinterpret_cast<const sockaddr*>(&place4);
    size = sizeof place4;
  }
  if (::bind(socket.get(), place, size) != 0) return errno;
  return tcp && ::listen(socket.get(), 1) != 0 ? errno : 0;
}

}  // namespace

std::string PublishedPort::text() const {
  std::string text = address.empty() ? "" : is_ipv6(address) ? "[" + address + "]:" : address + ":";
  text += std::to_string(host) + ":" + std::to_string(guest);
  return protocol == Protocol::udp ? text + "/udp" : text;
}

std::vector<PublishedPort> parse_published_ports(std::string_view what, std::string_view text) {
  std::vector<PublishedPort> ports;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('+', begin), text.size());
    const PublishedPort port = Parser(what, text.substr(begin, end - begin)).parse();
    // Also at different addresses: passt keeps one answer for each port.
    for (const PublishedPort& other : ports)
      if (other.host == port.host && other.protocol == port.protocol)
        throw ConfigError(std::string(what), port.text(),
                          "the host's " + std::string(to_string(port.protocol)) + " port is published twice",
                          "give each port of the host once");
    ports.push_back(port);
    begin = end + 1;
  }
  return ports;
}

void check_port_is_free(std::string_view what, const PublishedPort& port) {
  int error = 0;
  if (!port.address.empty()) {
    error = try_to_listen(is_ipv6(port.address) ? AF_INET6 : AF_INET, port.address, port);
  } else {
    error = try_to_listen(AF_INET, {}, port);
    const int error6 = error == 0 ? try_to_listen(AF_INET6, {}, port) : 0;
    if (error6 != EAFNOSUPPORT && error6 != EADDRNOTAVAIL && error6 != 0) error = error6;
  }
  if (error == 0) return;
  const std::string number = std::to_string(port.host);
  const std::string name = std::string(to_string(port.protocol)) + " port " + number;
  const auto refuse = [&](const std::string& problem, const std::string& fix) {
    throw ConfigError(std::string(what), port.text(), problem, fix);
  };
  if (error == EADDRINUSE)
    refuse("the host's " + name + " is in use",
           "give another port, or end the program that has it ('ss -lnp sport = :" + number +
               "' as root names it)");
  if (error == EACCES)
    refuse(
        "the host's " + name + " is reserved for root",
        "give a port from 1024 on, or allow it: sudo sysctl net.ipv4.ip_unprivileged_port_start=" + number);
  if (error == EADDRNOTAVAIL)
    refuse("the host has no address " + port.address, "give one that 'ip address' shows");
  refuse("the host does not let a program listen at it: " + std::string(std::strerror(error)),
         "give another address or port");
}

}  // namespace hum
