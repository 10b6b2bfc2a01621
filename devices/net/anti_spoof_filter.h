// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "devices/net/frame_filter.h"
#include "devices/net/ip_address.h"
#include "devices/net/mac_address.h"

namespace hum {

// The addresses that an interface may send from, beside its MAC. None of either: any.
struct SenderAddresses {
  std::vector<Ipv4Address> ipv4;
  std::vector<Ipv6Address> ipv6;

  bool any() const { return ipv4.empty() && ipv6.empty(); }
};

// Reads the option: "off" (nothing), "on" (the MAC alone), or addresses with "+" between them. what names the
// option in the error. Throws ConfigError, also for addresses that no host can have.
std::optional<SenderAddresses> parse_anti_spoof(std::string_view what, std::string_view text);

// Lets out what an interface sends in its own name; what comes to the guest passes.
//
// With no addresses given: frames whose Ethernet source is the interface's MAC, and in ARP (RFC 826) the
// sender's as well. With addresses, of those frames only:
// - IPv4 from a given address, and from 0.0.0.0 to ask for one by DHCP (RFC 2131, UDP from port 68 to 67);
// - ARP of a given sender, or a probe from 0.0.0.0 (RFC 5227);
// - IPv6 from a given address or the link-local one derived from the MAC (RFC 4291, appendix A), and ICMPv6
//   from the unspecified address (RFC 4862, RFC 3810). Neighbour advertisements, and solicitations from the
//   unspecified address, must be of an allowed target. If IPv6 is to be sent from other link-local addresses
//   (RFC 7217), these have to be given.
// Every other protocol is dropped then. Frames with a VLAN tag are dropped in either case: the host has not
// put the interface into a VLAN, and nothing may hide behind a tag.
//
// The host may have to put a checksum into a frame: it must not fall on what decides.
//
// The MAC is the one that the host gave: a guest that sets another one by its control queue sends nothing.
// No state: any number of threads.
class AntiSpoofFilter final : public FrameFilter {
 public:
  AntiSpoofFilter(const MacAddress& own, SenderAddresses addresses);

  // The interface has another MAC. While no frame is under way.
  void set_own(const MacAddress& own);

  Answer decide(Direction direction, const Frame& frame) override;

 private:
  using Bytes = std::span<const std::byte>;

  bool may_leave(Bytes frame, std::size_t checksum_at) const;
  bool may_leave_arp(Bytes packet) const;
  bool may_leave_ipv4(Bytes packet, std::size_t checksum_at) const;
  bool may_leave_ipv6(Bytes packet, std::size_t checksum_at) const;
  bool is_own_ipv6(Bytes address) const;

  MacAddress own_;
  SenderAddresses addresses_;
  Ipv6Address link_local_;
};

}  // namespace hum
