// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "devices/net/ip_address.h"
#include "devices/net/mac_address.h"

// The frames that the metadata service and its guests exchange: ARP (RFC 826), and TCP (RFC 9293) over IPv4
// (RFC 791).
namespace hum::mmds {

// So many bytes of a frame tell whom it is for.
inline constexpr std::size_t start_bytes = 14 + 28;

inline constexpr std::size_t most_header_bytes = 14 + 60 + 60;
inline constexpr std::size_t least_header_bytes = 14 + 20 + 20;

// Whether it is an ARP request for that address or a packet of IPv4 to it. start: the frame's first bytes, up
// to start_bytes.
bool is_for(const Ipv4Address& address, std::span<const std::byte> start);

struct ArpRequest {
  MacAddress mac;  // who asks
  Ipv4Address address{};
};
// Nothing: it is none.
std::optional<ArpRequest> read_arp_request(std::span<const std::byte> frame);
// Says that address is at mac. Returns the frame's bytes, for which `to` has room.
std::size_t write_arp_reply(const ArpRequest& request, const Ipv4Address& address, const MacAddress& mac,
                            std::span<std::byte> to);

struct Segment {
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgement = 0;
  std::uint16_t window = 0;
  bool syn = false;
  bool ack = false;
  bool fin = false;
  bool rst = false;
  bool push = false;
  std::optional<std::uint16_t> most_payload{};  // the option of a SYN (3.7.1)
  std::span<const std::byte> payload{};

  // In sequence numbers.
  std::uint32_t length() const { return static_cast<std::uint32_t>(payload.size()) + syn + fin; }
};

struct Place {
  MacAddress mac;
  Ipv4Address address{};
  std::uint16_t port = 0;
};

struct SegmentFrame {
  Place from;
  Place to;
  Segment segment;
};

// The frame's segment, whose payload lies in the frame. Nothing: it is no such frame, a fragment, or damaged.
// checksum_at: as in Frame, a checksum that was not made yet and counts as right.
std::optional<SegmentFrame> read_segment(std::span<const std::byte> frame, std::size_t checksum_at);

// Returns the frame's bytes: `to` has room for least_header_bytes, 4 more with most_payload, and the payload.
std::size_t write_segment(const SegmentFrame& content, std::span<std::byte> to);

}  // namespace hum::mmds
