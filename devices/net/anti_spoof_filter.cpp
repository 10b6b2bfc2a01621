// SPDX-License-Identifier: Apache-2.0
#include "devices/net/anti_spoof_filter.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "devices/net/net_wire.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using Bytes = std::span<const std::byte>;

constexpr unsigned ethertype_ipv4 = 0x0800;
constexpr unsigned ethertype_arp = 0x0806;
constexpr unsigned ethertype_ipv6 = 0x86dd;
constexpr std::array<unsigned, 4> ethertypes_vlan = {0x8100, 0x88a8, 0x9100, 0x9200};

// RFC 8200, section 4.
constexpr unsigned next_hop_by_hop = 0;
constexpr unsigned next_udp = 17;
constexpr unsigned next_routing = 43;
constexpr unsigned next_icmpv6 = 58;
constexpr unsigned next_destination = 60;

constexpr unsigned neighbour_solicitation = 135;  // RFC 4861, section 4
constexpr unsigned neighbour_advertisement = 136;

unsigned byte_at(Bytes bytes, std::size_t at) {
  return std::to_integer<unsigned>(bytes[at]);
}

unsigned word_at(Bytes bytes, std::size_t at) {
  return byte_at(bytes, at) << 8 | byte_at(bytes, at + 1);
}

template <std::size_t size>
bool equal(Bytes bytes, const std::array<std::uint8_t, size>& address) {
  return std::memcmp(bytes.data(), address.data(), size) == 0;
}

template <class Address>
bool contains(const std::vector<Address>& addresses, Bytes address) {
  return std::any_of(addresses.begin(), addresses.end(),
                     [&](const Address& each) { return equal(address, each); });
}

// What is behind an IPv6 header and its extensions.
struct Ipv6Payload {
  std::size_t at;
  // Empty: another protocol, or a fragment, in which nobody listens to neighbour discovery (RFC 6980).
  Bytes icmpv6;
};

// Nothing: not to be seen in these bytes.
std::optional<Ipv6Payload> payload_of(Bytes packet) {
  unsigned next = byte_at(packet, 6);
  Bytes rest = packet.subspan(40);
  while (next == next_hop_by_hop || next == next_routing || next == next_destination) {
    if (rest.size() < 2) return {};
    next = byte_at(rest, 0);
    const std::size_t bytes = 8 * (1 + std::size_t{byte_at(rest, 1)});
    if (rest.size() < bytes) return {};
    rest = rest.subspan(bytes);
  }
  const std::size_t at = packet.size() - rest.size();
  if (next != next_icmpv6) return Ipv6Payload{at, {}};
  if (rest.size() < 8) return {};
  return Ipv6Payload{at, rest};
}

// RFC 2131, section 4.1: from port 68 to port 67, with no address yet. A fragment shows no ports.
bool asks_by_dhcp(Bytes packet) {
  const std::size_t header = 4 * std::size_t{byte_at(packet, 0) & 15};
  return byte_at(packet, 9) == next_udp && (word_at(packet, 6) & 0x3fff) == 0 && header >= 20 &&
         packet.size() >= header + 4 && word_at(packet, header) == 68 && word_at(packet, header + 2) == 67;
}

}  // namespace

std::optional<SenderAddresses> parse_anti_spoof(std::string_view what, std::string_view text) {
  if (text == "off") return {};
  SenderAddresses addresses;
  if (text == "on") return addresses;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('+', begin), text.size());
    const std::string one(text.substr(begin, end - begin));
    begin = end + 1;
    Ipv4Address ipv4{};
    Ipv6Address ipv6{};
    const bool is_ipv4 = ::inet_pton(AF_INET, one.c_str(), ipv4.data()) == 1;
    if (!is_ipv4 && ::inet_pton(AF_INET6, one.c_str(), ipv6.data()) != 1)
      throw ConfigError(std::string(what), one, "no IP address",
                        "give on, off, or addresses like 192.0.2.7+2001:db8::7");
    if (is_ipv4 ? ipv4[0] == 0 || ipv4[0] >= 224 : ipv6 == Ipv6Address{} || ipv6[0] == 0xff)
      throw ConfigError(std::string(what), one, "nobody sends from this address",
                        "give the addresses that the guest has");
    if (is_ipv4)
      addresses.ipv4.push_back(ipv4);
    else
      addresses.ipv6.push_back(ipv6);
  }
  return addresses;
}

AntiSpoofFilter::AntiSpoofFilter(const MacAddress& own, SenderAddresses addresses)
    : addresses_(std::move(addresses)) {
  set_own(own);
}

void AntiSpoofFilter::set_own(const MacAddress& own) {
  own_ = own;
  const auto& mac = own_.bytes;
  link_local_ = {0xfe,   0x80,   0,    0,    0,      0,      0,     0, static_cast<std::uint8_t>(mac[0] ^ 2),
                 mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
}

FrameFilter::Answer AntiSpoofFilter::decide(Direction direction, const Frame& frame) {
  if (direction == Direction::to_guest || may_leave(frame.start, frame.checksum_at)) return {};
  return {Verdict::drop, {}};
}

bool AntiSpoofFilter::may_leave(Bytes frame, std::size_t checksum_at) const {
  if (frame.size() < net_wire::ethernet_header_bytes || !equal(frame.subspan(6), own_.bytes)) return false;
  const unsigned type = word_at(frame, 12);
  const Bytes packet = frame.subspan(net_wire::ethernet_header_bytes);
  if (std::find(ethertypes_vlan.begin(), ethertypes_vlan.end(), type) != ethertypes_vlan.end()) return false;
  if (type == ethertype_arp) return checksum_at == 0 && may_leave_arp(packet);
  if (addresses_.any()) return true;
  // A frame says so only with a place behind its Ethernet header.
  const std::size_t in_packet = checksum_at == 0 ? 0 : checksum_at - net_wire::ethernet_header_bytes;
  if (checksum_at != 0 && in_packet == 0) return false;
  if (type == ethertype_ipv4) return may_leave_ipv4(packet, in_packet);
  return type == ethertype_ipv6 && may_leave_ipv6(packet, in_packet);
}

// RFC 826: Ethernet and IPv4 are the only kind there is.
bool AntiSpoofFilter::may_leave_arp(Bytes packet) const {
  constexpr std::size_t bytes = 28;
  if (packet.size() < bytes || word_at(packet, 0) != 1 || word_at(packet, 2) != ethertype_ipv4 ||
      byte_at(packet, 4) != own_.bytes.size() || byte_at(packet, 5) != sizeof(Ipv4Address))
    return false;
  if (!equal(packet.subspan(8), own_.bytes)) return false;
  const Bytes sender = packet.subspan(14);
  return addresses_.any() || equal(sender, Ipv4Address{}) || contains(addresses_.ipv4, sender);
}

bool AntiSpoofFilter::may_leave_ipv4(Bytes packet, std::size_t checksum_at) const {
  if (packet.size() < 20 || byte_at(packet, 0) >> 4 != 4) return false;
  const std::size_t header = 4 * std::size_t{byte_at(packet, 0) & 15};
  // Behind the ports.
  if (header < 20 || (checksum_at != 0 && checksum_at < header + 4)) return false;
  const Bytes source = packet.subspan(12);
  return contains(addresses_.ipv4, source) || (equal(source, Ipv4Address{}) && asks_by_dhcp(packet));
}

bool AntiSpoofFilter::may_leave_ipv6(Bytes packet, std::size_t checksum_at) const {
  if (packet.size() < 40 || byte_at(packet, 0) >> 4 != 6) return false;
  const Bytes source = packet.subspan(8);
  const bool unspecified = equal(source, Ipv6Address{});
  if (!unspecified && !is_own_ipv6(source)) return false;
  const std::optional<Ipv6Payload> payload = payload_of(packet);
  if (!payload) return false;
  const Bytes icmpv6 = payload->icmpv6;
  // Only where ICMPv6 has its own (RFC 4443, section 2.1), or behind ports.
  if (checksum_at != 0 && (icmpv6.empty() ? checksum_at < payload->at + 4 : checksum_at != payload->at + 2))
    return false;
  if (icmpv6.empty()) return !unspecified;
  const unsigned type = byte_at(icmpv6, 0);
  if (type != neighbour_advertisement && !(type == neighbour_solicitation && unspecified)) return true;
  return icmpv6.size() >= 24 && is_own_ipv6(icmpv6.subspan(8));
}

bool AntiSpoofFilter::is_own_ipv6(Bytes address) const {
  return equal(address, link_local_) || contains(addresses_.ipv6, address);
}

}  // namespace hum
