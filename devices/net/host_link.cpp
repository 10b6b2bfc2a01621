// SPDX-License-Identifier: Apache-2.0
#include "devices/net/host_link.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

// 0 or errno.
int ask(unsigned long what, ifreq& request) {
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) throw HostError(errno, "make a socket", "raise the limit of open files (ulimit -n)");
  return ::ioctl(socket.get(), what, &request) == 0 ? 0 : errno;
}

void demand(unsigned long what, ifreq& request, const std::string& tried) {
  if (const int error = ask(what, request)) throw HostError(error, tried + " '" + request.ifr_name + "'");
}

}  // namespace

ifreq interface_request(std::string_view name) {
  ifreq request{};
  assert(name.size() < sizeof request.ifr_name);
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  return request;
}

MacAddress address_in(const ifreq& request) {
  MacAddress address;
  std::memcpy(address.bytes.data(), request.ifr_hwaddr.sa_data, address.bytes.size());
  return address;
}

std::optional<HostLink> HostLink::find(std::string_view name) {
  if (name.empty() || name.size() >= IFNAMSIZ) return {};
  ifreq request = interface_request(name);
  if (const int error = ask(SIOCGIFINDEX, request)) {
    if (error == ENODEV) return {};
    throw HostError(error, "look for the interface '" + std::string(name) + "'");
  }
  return HostLink(std::string(name));
}

int HostLink::index() const {
  ifreq request = interface_request(name_);
  demand(SIOCGIFINDEX, request, "find the interface");
  return request.ifr_ifindex;
}

HostLink::Kind HostLink::kind() const {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  ifreq request = interface_request(name_);
  request.ifr_data = reinterpret_cast<char*>(&info);
  if (ask(SIOCETHTOOL, request) != 0) return Kind::other;
  const std::string_view driver = info.driver;
  if (driver == "tun") return std::string_view(info.bus_info) == "tap" ? Kind::tap : Kind::tun;
  if (driver == "bridge") return Kind::bridge;
  return driver == "macvlan" ? Kind::macvlan : Kind::other;
}

MacAddress HostLink::address() const {
  ifreq request = interface_request(name_);
  demand(SIOCGIFHWADDR, request, "read the address of the interface");
  return address_in(request);
}

std::uint16_t HostLink::mtu() const {
  ifreq request = interface_request(name_);
  demand(SIOCGIFMTU, request, "read the MTU of the interface");
  return static_cast<std::uint16_t>(std::clamp(request.ifr_mtu, 0, int{UINT16_MAX}));
}

bool HostLink::is_up() const {
  ifreq request = interface_request(name_);
  demand(SIOCGIFFLAGS, request, "read the state of the interface");
  return (request.ifr_flags & IFF_UP) != 0;
}

void HostLink::set_mtu(std::uint16_t bytes) const {
  ifreq request = interface_request(name_);
  request.ifr_mtu = bytes;
  demand(SIOCSIFMTU, request, "set the MTU of the interface");
}

void HostLink::set_up() const {
  ifreq request = interface_request(name_);
  demand(SIOCGIFFLAGS, request, "read the state of the interface");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  demand(SIOCSIFFLAGS, request, "set up the interface");
}

void HostLink::add_port(const HostLink& port) const {
  ifreq request = interface_request(name_);
  request.ifr_ifindex = port.index();
  demand(SIOCBRADDIF, request, "add the interface '" + port.name() + "' to the bridge");
}

}  // namespace hum
