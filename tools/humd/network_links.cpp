// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_links.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>

#include "devices/net/host_link.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum::links {
namespace {

using Bytes = std::span<const std::byte>;

std::size_t aligned(std::size_t size) {
  return (size + 3) & ~std::size_t{3};
}

// Reads at most the bytes that are there: older kernels know shorter structures.
template <class T>
T take(Bytes bytes) {
  T value{};
  std::memcpy(&value, bytes.data(), std::min(sizeof value, bytes.size()));
  return value;
}

Bytes behind(Bytes bytes, std::size_t size) {
  return bytes.subspan(std::min(aligned(size), bytes.size()));
}

// Calls with the type and content of each attribute.
void for_each_attribute(Bytes bytes, const std::function<void(unsigned, Bytes)>& use) {
  while (bytes.size() >= sizeof(rtattr)) {
    const auto header = take<rtattr>(bytes);
    if (header.rta_len < sizeof header || header.rta_len > bytes.size()) return;
    use(header.rta_type & static_cast<unsigned>(NLA_TYPE_MASK),
        bytes.subspan(sizeof header, header.rta_len - sizeof header));
    bytes = behind(bytes, header.rta_len);
  }
}

std::string text_in(Bytes bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return std::string(text.substr(0, text.find('\0')));
}

// One question or order for the kernel.
class Request {
 public:
  template <class Header>
  Request(int type, int flags, const Header& header) {
    nlmsghdr begin{};
    begin.nlmsg_type = static_cast<std::uint16_t>(type);
    begin.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    put(begin);
    put(header);
  }

  Request& attribute(int type, Bytes content) {
    rtattr header{};
    header.rta_len = static_cast<std::uint16_t>(sizeof header + content.size());
    header.rta_type = static_cast<std::uint16_t>(type);
    put(header);
    put_bytes(content);
    return *this;
  }
  Request& attribute(int type, const std::string& text) {
    return attribute(type, std::as_bytes(std::span(text.c_str(), text.size() + 1)));
  }
  template <class T>
  Request& number(int type, T value) {
    return attribute(type, std::as_bytes(std::span(&value, 1)));
  }
  template <class Inside>
  Request& nest(int type, Inside&& inside) {
    const std::size_t begin = message_.size();
    put(rtattr{});
    inside(*this);
    rtattr header{};
    header.rta_len = static_cast<std::uint16_t>(message_.size() - begin);
    header.rta_type = static_cast<std::uint16_t>(type);
    std::memcpy(message_.data() + begin, &header, sizeof header);
    return *this;
  }

  // Sends it; what comes back goes to use, without the messages' headers. 0 or errno.
  int ask(const std::function<void(Bytes)>& use = {}) {
    auto header = take<nlmsghdr>(message_);
    const bool is_list = (header.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
    if (!use) header.nlmsg_flags |= NLM_F_ACK;
    header.nlmsg_len = static_cast<std::uint32_t>(message_.size());
    std::memcpy(message_.data(), &header, sizeof header);
    const Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!socket) return errno;
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    if (::sendto(socket.get(), message_.data(), message_.size(), 0,
                 reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel) < 0)
      return errno;
    std::vector<std::byte> buffer(std::size_t{1} << 17);
    while (true) {
      const ssize_t count = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno;
      Bytes rest(buffer.data(), static_cast<std::size_t>(count));
      while (rest.size() >= sizeof(nlmsghdr)) {
        const auto answer = take<nlmsghdr>(rest);
        if (answer.nlmsg_len < sizeof answer || answer.nlmsg_len > rest.size()) return EBADMSG;
        const Bytes content = rest.subspan(sizeof answer, answer.nlmsg_len - sizeof answer);
        if (answer.nlmsg_type == NLMSG_DONE) return 0;
        if (answer.nlmsg_type == NLMSG_ERROR) return -take<nlmsgerr>(content).error;
        if (use) use(content);
        if (!is_list) return 0;
        rest = behind(rest, answer.nlmsg_len);
      }
    }
  }

 private:
  template <class T>
  void put(const T& value) {
    put_bytes(std::as_bytes(std::span(&value, 1)));
  }
  void put_bytes(Bytes bytes) {
    message_.insert(message_.end(), bytes.begin(), bytes.end());
    message_.resize(aligned(message_.size()));
  }

  std::vector<std::byte> message_;
};

void demand(Request& request, const std::string& tried, int tolerated = 0) {
  const int error = request.ask();
  if (error != 0 && error != tolerated)
    throw HostError(error, tried, error == EPERM ? "it needs root (CAP_NET_ADMIN)" : "");
}

ifinfomsg link_header(int index = 0) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = index;
  return header;
}

void take_tap(Bytes data, LinkState& link) {
  for_each_attribute(data, [&](unsigned type, Bytes content) {
    if (type == IFLA_TUN_OWNER) link.owner = take<std::uint32_t>(content);
    if (type == IFLA_TUN_MULTI_QUEUE) link.multi_queue = take<std::uint8_t>(content) != 0;
  });
}

LinkState link_in(Bytes message) {
  const auto header = take<ifinfomsg>(message);
  LinkState link;
  link.index = header.ifi_index;
  link.up = (header.ifi_flags & IFF_UP) != 0;
  for_each_attribute(behind(message, sizeof header), [&](unsigned type, Bytes content) {
    if (type == IFLA_IFNAME) link.name = text_in(content);
    if (type == IFLA_IFALIAS) link.alias = text_in(content);
    if (type == IFLA_MASTER) link.bridge = take<int>(content);
    if (type == IFLA_ADDRESS) link.mac = take<MacAddress>(content);
    if (type != IFLA_LINKINFO) return;
    for_each_attribute(content, [&](unsigned inner, Bytes part) {
      if (inner == IFLA_INFO_KIND) link.kind = text_in(part);
      if (inner == IFLA_INFO_DATA && link.kind == "tun") take_tap(part, link);
    });
  });
  return link;
}

Bytes bytes_of(const MacAddress& mac) {
  return std::as_bytes(std::span(mac.bytes));
}

void change_address(int type, int flags, int link, const LinkAddress& address, int tolerated) {
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  header.ifa_prefixlen = static_cast<std::uint8_t>(address.prefix);
  header.ifa_index = static_cast<unsigned>(link);
  Request request(type, flags, header);
  const Bytes bytes = std::as_bytes(std::span(address.address));
  request.attribute(IFA_LOCAL, bytes).attribute(IFA_ADDRESS, bytes);
  demand(request, "change the address " + address_text(address.address) + " of an interface", tolerated);
}

}  // namespace

std::optional<LinkState> find(const std::string& name) {
  Request request(RTM_GETLINK, 0, link_header());
  request.attribute(IFLA_IFNAME, name);
  std::optional<LinkState> link;
  const int error = request.ask([&](Bytes message) { link = link_in(message); });
  if (error != 0 && error != ENODEV) throw HostError(error, "look for the interface '" + name + "'");
  return link;
}

std::vector<LinkState> all() {
  std::vector<LinkState> found;
  Request request(RTM_GETLINK, NLM_F_DUMP, link_header());
  if (const int error = request.ask([&](Bytes message) { found.push_back(link_in(message)); }))
    throw HostError(error, "list the interfaces");
  return found;
}

std::vector<LinkAddress> addresses(int link) {
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  Request request(RTM_GETADDR, NLM_F_DUMP, header);
  std::vector<LinkAddress> found;
  const int error = request.ask([&](Bytes message) {
    const auto answer = take<ifaddrmsg>(message);
    if (answer.ifa_index != static_cast<unsigned>(link)) return;
    LinkAddress address;
    address.prefix = answer.ifa_prefixlen;
    for_each_attribute(behind(message, sizeof answer), [&](unsigned type, Bytes content) {
      if (type == IFA_LOCAL) address.address = take<Ipv4Address>(content);
    });
    found.push_back(address);
  });
  if (error != 0) throw HostError(error, "list the addresses of an interface");
  return found;
}

std::vector<LinkRoute> routes() {
  rtmsg header{};
  header.rtm_family = AF_INET;
  Request request(RTM_GETROUTE, NLM_F_DUMP, header);
  std::vector<LinkRoute> found;
  const int error = request.ask([&](Bytes message) {
    const auto answer = take<rtmsg>(message);
    if (answer.rtm_table != RT_TABLE_MAIN || answer.rtm_dst_len == 0) return;
    LinkRoute route;
    route.subnet.prefix = answer.rtm_dst_len;
    for_each_attribute(behind(message, sizeof answer), [&](unsigned type, Bytes content) {
      if (type == RTA_DST) route.subnet.base = take<Ipv4Address>(content);
      if (type == RTA_OIF) route.link = take<int>(content);
    });
    found.push_back(route);
  });
  if (error != 0) throw HostError(error, "list the routes");
  return found;
}

void make_bridge(const std::string& name, MacAddress mac) {
  Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link_header());
  request.attribute(IFLA_IFNAME, name).attribute(IFLA_ADDRESS, bytes_of(mac));
  request.nest(IFLA_LINKINFO, [](Request& info) {
    info.attribute(IFLA_INFO_KIND, std::string("bridge"));
    info.nest(IFLA_INFO_DATA, [](Request& data) { data.number(IFLA_BR_FORWARD_DELAY, std::uint32_t{0}); });
  });
  demand(request, "make the bridge '" + name + "'");
}

void make_tap(const TapRequest& wanted) {
  const Fd queue = open_file("/dev/net/tun", O_RDWR, 0, "load the module tun (modprobe tun)");
  ifreq request = interface_request(wanted.name);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL |
                                         (wanted.multi_queue ? IFF_MULTI_QUEUE : 0));
  const auto demand_done = [&](bool done) {
    if (!done) throw HostError(errno, "make the tap '" + wanted.name + "'");
  };
  demand_done(::ioctl(queue.get(), TUNSETIFF, &request) == 0);
  demand_done(::ioctl(queue.get(), TUNSETOWNER, static_cast<unsigned long>(wanted.owner)) == 0);
  const auto made = find(wanted.name);
  errno = ENODEV;
  demand_done(made.has_value());
  set_alias(made->index, wanted.alias);
  // Until here it goes with its descriptor.
  demand_done(::ioctl(queue.get(), TUNSETPERSIST, 1ul) == 0);
}

void set_alias(int link, const std::string& alias) {
  Request request(RTM_NEWLINK, 0, link_header(link));
  // Without the zero at the end: the kernel would keep it.
  request.attribute(IFLA_IFALIAS, std::as_bytes(std::span(alias)));
  demand(request, "describe an interface as '" + alias + "'");
}

void set_mac(int link, MacAddress mac) {
  Request request(RTM_NEWLINK, 0, link_header(link));
  request.attribute(IFLA_ADDRESS, bytes_of(mac));
  demand(request, "give an interface the address " + mac.text());
}

void set_bridge(int link, int bridge) {
  Request request(RTM_NEWLINK, 0, link_header(link));
  request.number(IFLA_MASTER, bridge);
  demand(request, "add an interface to a bridge");
}

void set_up(int link) {
  ifinfomsg header = link_header(link);
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  Request request(RTM_NEWLINK, 0, header);
  demand(request, "set up an interface");
}

void add_address(int link, const LinkAddress& address) {
  change_address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, link, address, EEXIST);
}

void remove_address(int link, const LinkAddress& address) {
  change_address(RTM_DELADDR, 0, link, address, EADDRNOTAVAIL);
}

void remove(int link) {
  Request request(RTM_DELLINK, 0, link_header(link));
  demand(request, "remove an interface", ENODEV);
}

}  // namespace hum::links
