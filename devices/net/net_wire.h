// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "vmm/base/endian.h"

// What driver and device of a network interface exchange (virtio 1.2, 5.1).
namespace hum::net_wire {

// 5.1.3.
inline constexpr std::uint64_t feature_csum = 1ull << 0;        // frames from the guest may lack a checksum
inline constexpr std::uint64_t feature_guest_csum = 1ull << 1;  // frames to the guest may
inline constexpr std::uint64_t feature_ctrl_guest_offloads = 1ull << 2;
inline constexpr std::uint64_t feature_mtu = 1ull << 3;
inline constexpr std::uint64_t feature_mac = 1ull << 5;
inline constexpr std::uint64_t feature_guest_tso4 = 1ull << 7;
inline constexpr std::uint64_t feature_guest_tso6 = 1ull << 8;
inline constexpr std::uint64_t feature_guest_ecn = 1ull << 9;
inline constexpr std::uint64_t feature_guest_ufo = 1ull << 10;
inline constexpr std::uint64_t feature_host_tso4 = 1ull << 11;
inline constexpr std::uint64_t feature_host_tso6 = 1ull << 12;
inline constexpr std::uint64_t feature_host_ecn = 1ull << 13;
inline constexpr std::uint64_t feature_host_ufo = 1ull << 14;
inline constexpr std::uint64_t feature_mrg_rxbuf = 1ull << 15;
inline constexpr std::uint64_t feature_status = 1ull << 16;
inline constexpr std::uint64_t feature_ctrl_vq = 1ull << 17;
inline constexpr std::uint64_t feature_ctrl_rx = 1ull << 18;
inline constexpr std::uint64_t feature_ctrl_vlan = 1ull << 19;
inline constexpr std::uint64_t feature_ctrl_rx_extra = 1ull << 20;
inline constexpr std::uint64_t feature_guest_announce = 1ull << 21;
inline constexpr std::uint64_t feature_mq = 1ull << 22;
inline constexpr std::uint64_t feature_ctrl_mac_addr = 1ull << 23;
inline constexpr std::uint64_t feature_guest_uso4 = 1ull << 54;
inline constexpr std::uint64_t feature_guest_uso6 = 1ull << 55;
inline constexpr std::uint64_t feature_host_uso = 1ull << 56;
inline constexpr std::uint64_t feature_speed_duplex = 1ull << 63;

// Of the guest as a receiver, which its driver can switch off again (5.1.6.5.6).
inline constexpr std::uint64_t guest_offloads = feature_guest_csum | feature_guest_tso4 | feature_guest_tso6 |
                                                feature_guest_ecn | feature_guest_ufo | feature_guest_uso4 |
                                                feature_guest_uso6;
inline constexpr std::uint64_t host_offloads = feature_csum | feature_host_tso4 | feature_host_tso6 |
                                               feature_host_ecn | feature_host_ufo | feature_host_uso;

// 5.1.6, in front of every frame. Always this size for a driver of virtio 1.
struct Header {
  std::uint8_t flags = 0;
  std::uint8_t gso_type = 0;
  le16 hdr_len;
  le16 gso_size;
  le16 csum_start;
  le16 csum_offset;
  le16 num_buffers;
};
static_assert(sizeof(Header) == 12 && std::has_unique_object_representations_v<Header>);

inline constexpr std::uint8_t header_needs_csum = 1;
inline constexpr std::uint8_t header_data_valid = 2;
inline constexpr std::uint8_t gso_none = 0;
inline constexpr std::uint8_t gso_tcp4 = 1;
inline constexpr std::uint8_t gso_udp = 3;
inline constexpr std::uint8_t gso_tcp6 = 4;
inline constexpr std::uint8_t gso_udp_l4 = 5;
inline constexpr std::uint8_t gso_ecn = 0x80;

// 5.1.4.
struct ConfigSpace {
  std::array<std::uint8_t, 6> mac{};
  le16 status;
  le16 max_virtqueue_pairs;
  le16 mtu;
  le32 speed;  // Mbit/s; all ones: unknown
  std::uint8_t duplex = 0;
  std::uint8_t rss_max_key_size = 0;
  le16 rss_max_indirection_table_length;
  le32 supported_hash_types;
};
static_assert(sizeof(ConfigSpace) == 24);

inline constexpr std::uint16_t status_link_up = 1;
inline constexpr std::uint16_t status_announce = 2;

// 5.1.6.5: a command of the control queue, its data, and the device's answer of one byte.
struct ControlHeader {
  std::uint8_t command_class = 0;
  std::uint8_t command = 0;
};
static_assert(sizeof(ControlHeader) == 2);
inline constexpr std::uint8_t control_ok = 0;
inline constexpr std::uint8_t control_error = 1;

inline constexpr std::uint8_t class_rx = 0;
inline constexpr std::uint8_t rx_promiscuous = 0;
inline constexpr std::uint8_t rx_all_multicast = 1;
inline constexpr std::uint8_t rx_all_unicast = 2;
inline constexpr std::uint8_t rx_no_multicast = 3;
inline constexpr std::uint8_t rx_no_unicast = 4;
inline constexpr std::uint8_t rx_no_broadcast = 5;
inline constexpr std::uint8_t class_mac = 1;
inline constexpr std::uint8_t mac_table_set = 0;
inline constexpr std::uint8_t mac_address_set = 1;
inline constexpr std::uint8_t class_vlan = 2;
inline constexpr std::uint8_t vlan_add = 0;
inline constexpr std::uint8_t vlan_delete = 1;
inline constexpr std::uint8_t class_announce = 3;
inline constexpr std::uint8_t announce_acknowledge = 0;
inline constexpr std::uint8_t class_mq = 4;
inline constexpr std::uint8_t mq_pairs_set = 0;
inline constexpr std::uint8_t class_guest_offloads = 5;
inline constexpr std::uint8_t guest_offloads_set = 0;

inline constexpr std::uint16_t most_pairs = 0x8000;  // 5.1.6.5.5

inline constexpr std::size_t ethernet_header_bytes = 14;
// The largest frame with segmentation offload: 65,535 bytes of IP, the Ethernet header and a VLAN tag.
inline constexpr std::size_t most_frame_bytes = 65535 + 18;

}  // namespace hum::net_wire
