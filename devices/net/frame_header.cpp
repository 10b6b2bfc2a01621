// SPDX-License-Identifier: Apache-2.0
#include "devices/net/frame_header.h"

namespace hum {

using namespace net_wire;

namespace {

// The features without which a frame has no such gso_type; 0 for a type that nobody knows.
struct Needs {
  std::uint64_t of_driver = 0;  // as a sender
  std::uint64_t of_guest = 0;   // as a receiver
};

Needs needs_of(std::uint8_t gso_type) {
  switch (gso_type) {
    case gso_tcp4:
      return {feature_host_tso4, feature_guest_tso4};
    case gso_tcp4 | gso_ecn:
      return {feature_host_tso4 | feature_host_ecn, feature_guest_tso4 | feature_guest_ecn};
    case gso_tcp6:
      return {feature_host_tso6, feature_guest_tso6};
    case gso_tcp6 | gso_ecn:
      return {feature_host_tso6 | feature_host_ecn, feature_guest_tso6 | feature_guest_ecn};
    case gso_udp:
      return {feature_host_ufo, feature_guest_ufo};
    default:
      return {};
  }
}

bool has(std::uint64_t features, std::uint64_t needed) {
  return needed != 0 && (features & needed) == needed;
}

}  // namespace

std::optional<Header> checked_header(const Header& header, std::size_t frame_bytes,
                                     std::uint64_t driver_features) {
  Header checked;
  if (header.flags & header_needs_csum) {
    const std::size_t start = header.csum_start;
    if (!(driver_features & feature_csum) || start < ethernet_header_bytes ||
        start + header.csum_offset + sizeof(le16) > frame_bytes)
      return {};
    checked.flags = header_needs_csum;
    checked.csum_start = header.csum_start;
    checked.csum_offset = header.csum_offset;
  }
  if (header.gso_type == gso_none) return checked;
  const bool negotiated = header.gso_type == gso_udp_l4
                              ? has(driver_features, feature_host_uso)
                              : has(driver_features, needs_of(header.gso_type).of_driver);
  // Pieces of a frame need checksums of their own.
  if (!negotiated || checked.flags == 0 || header.gso_size == 0 || header.hdr_len > frame_bytes) return {};
  checked.gso_type = header.gso_type;
  checked.gso_size = header.gso_size;
  checked.hdr_len = header.hdr_len;
  return checked;
}

bool can_take(const Header& header, std::uint64_t offloads) {
  if ((header.flags & header_needs_csum) && !(offloads & feature_guest_csum)) return false;
  if (header.gso_type == gso_none) return true;
  return header.gso_type == gso_udp_l4 ? (offloads & (feature_guest_uso4 | feature_guest_uso6)) != 0
                                       : has(offloads, needs_of(header.gso_type).of_guest);
}

}  // namespace hum
