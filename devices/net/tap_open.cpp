// SPDX-License-Identifier: Apache-2.0
#include "devices/net/tap_open.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <utility>

#include "devices/net/host_link.h"
#include "devices/net/net_wire.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr int tap_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

using Kind = HostLink::Kind;

// The option that says which tap.
struct Choice {
  std::string key;
  std::string value;

  [[noreturn]] void refuse(const std::string& problem, const std::string& fix) const {
    throw ConfigError(key, value, problem, fix);
  }
};

std::string how_to_make(const std::string& name, const std::string& more = "") {
  return "ip tuntap add " + name + " mode tap" + more + " user USER";
}

Fd open_tun() {
  return open_file("/dev/net/tun", O_RDWR | O_NONBLOCK, 0,
                   "load the module tun (modprobe tun) and let this user read and write it");
}

// Makes a descriptor a queue of the interface; 0 or errno. name: changed where it was a pattern.
int attach(const Fd& queue, std::string& name, std::uint16_t pairs) {
  ifreq request = interface_request(name);
  request.ifr_flags = static_cast<short>(tap_flags | (pairs > 1 ? IFF_MULTI_QUEUE : 0));
  if (::ioctl(queue.get(), TUNSETIFF, &request) != 0) return errno;
  name = request.ifr_name;
  return 0;
}

void prepare(const Fd& queue) {
  int header = sizeof(net_wire::Header);
  int little_endian = 1;
  if (::ioctl(queue.get(), TUNSETVNETHDRSZ, &header) != 0 ||
      ::ioctl(queue.get(), TUNSETVNETLE, &little_endian) != 0)
    throw HostError(errno, "set the headers of a tap's frames");
}

std::uint16_t checked_mtu(const TapSettings& settings, const HostLink& link) {
  const std::uint16_t most = link.mtu();
  if (settings.mtu.value_or(0) > most)
    throw ConfigError(
        settings.what + ".mtu", std::to_string(*settings.mtu),
        "the interface " + link.name() + " carries " + std::to_string(most),
        "give at most that, or do: ip link set " + link.name() + " mtu " + std::to_string(*settings.mtu));
  return settings.mtu.value_or(most);
}

void mind_state(const TapSettings& settings, const HostLink& link, const Log& log) {
  if (!link.is_up())
    log.warning(settings.what + ": the interface " + link.name() +
                " is down and carries nothing; ip link set " + link.name() + " up");
}

[[noreturn]] void refuse_kind(const Choice& choice, Kind kind) {
  switch (kind) {
    case Kind::tun:
      choice.refuse("is a tun interface, which carries no Ethernet frames",
                    "make a tap: " + how_to_make("NAME"));
    case Kind::bridge:
      choice.refuse("is a bridge", "give bridge=" + choice.value + ", which makes a tap for it");
    case Kind::macvlan:
      choice.refuse("is no tap", "give macvtap=" + choice.value + " if it is a macvtap interface");
    default:
      choice.refuse("is no tap", "make one: " + how_to_make("NAME"));
  }
}

[[noreturn]] void refuse_attach(const Choice& choice, std::uint16_t pairs, int error) {
  switch (error) {
    case EBUSY:
      choice.refuse("is in use by another process", "end that, or make one tap for each virtual machine");
    case EPERM:
      choice.refuse("belongs to another user", "make it for this one: " + how_to_make(choice.value));
    case EINVAL:
      if (pairs > 1)
        choice.refuse(
            "has one queue only, " + std::to_string(pairs) + " pairs were asked for",
            "make it with several: " + how_to_make(choice.value, " multi_queue") + "; or give queues=1");
      choice.refuse("was made for several queues",
                    "give queues=2 or more, or make it without multi_queue: " + how_to_make(choice.value));
    case E2BIG:
      choice.refuse("takes no more queues", "give fewer queues than " + std::to_string(pairs));
    default:
      throw HostError(error, "use the tap '" + choice.value + "'");
  }
}

OpenTap open_by_name(const TapSettings& settings, const Log& log) {
  const Choice choice{settings.what + ".tap", settings.tap};
  // The kernel would make an interface that is missing.
  const auto link = HostLink::find(settings.tap);
  if (!link)
    choice.refuse("there is no such interface", "make it: " + how_to_make(settings.tap) +
                                                    "; or give bridge=NAME, which makes one by itself");
  if (const Kind kind = link->kind(); kind != Kind::tap) refuse_kind(choice, kind);
  OpenTap tap;
  tap.mtu = checked_mtu(settings, *link);
  std::string name = settings.tap;
  while (tap.queues.size() < settings.pairs) {
    const Fd& queue = tap.queues.emplace_back(open_tun());
    if (const int error = attach(queue, name, settings.pairs)) refuse_attach(choice, settings.pairs, error);
  }
  mind_state(settings, *link, log);
  return tap;
}

OpenTap make_for_bridge(const TapSettings& settings, const Log& log) {
  const Choice choice{settings.what + ".bridge", settings.bridge};
  const auto bridge = HostLink::find(settings.bridge);
  if (!bridge)
    choice.refuse("there is no such interface", "make it: ip link add " + settings.bridge +
                                                    " type bridge, ip link set " + settings.bridge + " up");
  if (bridge->kind() != Kind::bridge)
    choice.refuse("is no bridge", "give the name of one (ip link show type bridge), or tap=NAME");
  OpenTap tap;
  tap.mtu = checked_mtu(settings, *bridge);
  std::string name = "hum%d";  // the first number that is free
  while (tap.queues.size() < settings.pairs) {
    const Fd& queue = tap.queues.emplace_back(open_tun());
    const int error = attach(queue, name, settings.pairs);
    if (error == EPERM)
      choice.refuse("this user may not make a tap for it (CAP_NET_ADMIN)",
                    "have one made: " + how_to_make("NAME") + ", ip link set NAME master " + settings.bridge +
                        " up; and give tap=NAME");
    if (error != 0) throw HostError(error, "make a tap for the bridge '" + settings.bridge + "'");
  }
  const auto link = HostLink::find(name);
  if (!link) throw HostError(ENODEV, "find the tap '" + name + "'");
  link->set_mtu(bridge->mtu());  // first: a bridge takes the least of its ports
  bridge->add_port(*link);
  link->set_up();
  mind_state(settings, *bridge, log);
  return tap;
}

// What an open queue belongs to; nothing, with errno, if that is no tap.
std::optional<ifreq> interface_of(int fd) {
  ifreq request = interface_request();
  if (::ioctl(fd, TUNGETIFF, &request) != 0) return {};
  return request;
}

// Another network namespace may have an interface of the same name.
bool belongs_to(const Fd& queue, const HostLink& link) {
  const auto request = interface_of(queue.get());
  ifreq address = interface_request();
  return request && link.name() == request->ifr_name && ::ioctl(queue.get(), SIOCGIFHWADDR, &address) == 0 &&
         address_in(address) == link.address();
}

OpenTap open_macvtap(const TapSettings& settings, const Log& log) {
  const Choice choice{settings.what + ".macvtap", settings.macvtap};
  const auto link = HostLink::find(settings.macvtap);
  const std::string make = "make one: ip link add link DEVICE name NAME type macvtap mode bridge";
  if (!link) choice.refuse("there is no such interface", make);
  if (link->kind() != Kind::macvlan) choice.refuse("is no macvtap interface", make);
  OpenTap tap;
  tap.mtu = checked_mtu(settings, *link);
  tap.address = link->address();
  const std::string path = "/dev/tap" + std::to_string(link->index());
  std::string name = settings.macvtap;
  while (tap.queues.size() < settings.pairs) {
    const Fd& queue = tap.queues.emplace_back(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!queue && errno == ENOENT)
      choice.refuse("there is no " + path, "a macvlan interface has none (" + make +
                                               "); in a container that file has to be passed in");
    if (!queue && (errno == EACCES || errno == EPERM))
      choice.refuse("permission denied for " + path, "let this user read and write it");
    if (!queue && errno == EBUSY)
      choice.refuse("takes no more queues", "give fewer queues than " + std::to_string(settings.pairs));
    if (!queue) throw HostError(errno, "open '" + path + "'");
    if (!belongs_to(queue, *link))
      choice.refuse(path + " belongs to something else", "pass in the file of this interface");
    if (const int error = attach(queue, name, settings.pairs))
      throw HostError(error, "use the macvtap interface '" + settings.macvtap + "'");
  }
  mind_state(settings, *link, log);
  return tap;
}

// Checks an inherited descriptor; what it belongs to.
ifreq inherited_interface(const Choice& choice, int fd) {
  const std::string needs = "pass in a tap that was opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR";
  const auto request = interface_of(fd);
  if (!request && errno == EBADF)
    choice.refuse("there is no such descriptor", "open it for this process; it must not be close-on-exec");
  if (!request && errno == EBADFD) choice.refuse("is a queue of no interface", needs);
  if (!request) choice.refuse("is no tap", needs);
  if ((request->ifr_flags & IFF_TAP) == 0) choice.refuse("is a tun, which carries no Ethernet frames", needs);
  if ((request->ifr_flags & IFF_VNET_HDR) == 0) choice.refuse("was opened without IFF_VNET_HDR", needs);
  return *request;
}

OpenTap adopt(const TapSettings& settings, const Log& log) {
  const std::string key = settings.what + ".tap-fd";
  const std::size_t count = settings.fds.size();
  if (settings.pairs != 1 && settings.pairs != count)
    throw ConfigError(settings.what + ".queues", std::to_string(settings.pairs),
                      "tap-fd gives " + std::to_string(count) + (count == 1 ? " queue" : " queues"),
                      "give as many descriptors as queues, or leave queues out");
  OpenTap tap;
  std::string name;
  for (const int fd : settings.fds) {
    const Choice choice{key, std::to_string(fd)};
    const ifreq request = inherited_interface(choice, fd);
    if (tap.queues.empty()) name = request.ifr_name;
    if (name != request.ifr_name)
      choice.refuse("is a queue of " + std::string(request.ifr_name) + ", another one is of " + name,
                    "give queues of one interface");
    // Also where a descriptor is given twice.
    if (count > 1 && (request.ifr_flags & IFF_MULTI_QUEUE) == 0)
      choice.refuse("is the only queue of " + name, "open the tap with IFF_MULTI_QUEUE, once for each queue");
    const Fd& queue = tap.queues.emplace_back(Fd::duplicate(fd));
    switch_queue(queue.get(), true);  // refused where it is on already
    if (::fcntl(queue.get(), F_SETFL, ::fcntl(queue.get(), F_GETFL) | O_NONBLOCK) != 0)
      throw HostError(errno, "change descriptor " + choice.value);
  }
  tap.mtu = settings.mtu;
  const auto link = HostLink::find(name);
  if (link && belongs_to(tap.queues.front(), *link)) {
    tap.mtu = checked_mtu(settings, *link);
    mind_state(settings, *link, log);
  }
  return tap;
}

OpenTap open_any(const TapSettings& settings, const Log& log) {
  if (!settings.fds.empty()) return adopt(settings, log);
  if (!settings.bridge.empty()) return make_for_bridge(settings, log);
  if (!settings.macvtap.empty()) return open_macvtap(settings, log);
  return open_by_name(settings, log);
}

}  // namespace

int switch_queue(int fd, bool on) {
  ifreq request = interface_request();
  request.ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
  return ::ioctl(fd, TUNSETQUEUE, &request) == 0 ? 0 : errno;
}

OpenTap open_tap(const TapSettings& settings, const Log& log) {
  OpenTap tap = open_any(settings, log);
  for (const Fd& queue : tap.queues) prepare(queue);
  return tap;
}

}  // namespace hum
