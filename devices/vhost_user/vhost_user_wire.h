// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "vmm/base/endian.h"

// What a front-end and a server of vhost-user exchange (the vhost-user protocol of the QEMU project,
// docs/interop/vhost-user, "Message Specification"). Numbers are in the host's byte order, here
// little-endian.
namespace hum::vhost_user_wire {

enum class Request : std::uint32_t {
  get_features = 1,
  set_features = 2,
  set_owner = 3,
  set_mem_table = 5,
  set_vring_num = 8,
  set_vring_addr = 9,
  set_vring_base = 10,
  get_vring_base = 11,
  set_vring_kick = 12,
  set_vring_call = 13,
  get_protocol_features = 15,
  set_protocol_features = 16,
  get_queue_num = 17,
  set_vring_enable = 18,
  net_set_mtu = 20,
  set_backend_channel = 21,
  get_config = 24,
  set_config = 25,
  get_inflight = 31,
  set_inflight = 32,
};

// What a server asks for on a channel of its own.
inline constexpr std::uint32_t backend_config_changed = 2;

inline constexpr std::uint64_t feature_protocol = 1ull << 30;  // there are protocol features

inline constexpr std::uint64_t protocol_mq = 1ull << 0;
inline constexpr std::uint64_t protocol_reply_ack = 1ull << 3;
inline constexpr std::uint64_t protocol_net_mtu = 1ull << 4;
inline constexpr std::uint64_t protocol_backend_channel = 1ull << 5;
inline constexpr std::uint64_t protocol_config = 1ull << 9;
inline constexpr std::uint64_t protocol_inflight = 1ull << 12;

inline constexpr std::uint32_t flags_version = 1;
inline constexpr std::uint32_t flags_version_mask = 3;
inline constexpr std::uint32_t flags_reply = 4;
inline constexpr std::uint32_t flags_need_reply = 8;

struct Header {
  le32 request;
  le32 flags;
  le32 size;  // of the payload, bytes
};
static_assert(sizeof(Header) == 12);

struct VringState {
  le32 index;
  le32 number;
};
static_assert(sizeof(VringState) == 8);

// Addresses are those of SharedRegion::user_address.
struct VringAddress {
  le32 index;
  le32 flags;
  le64 descriptors;
  le64 used;
  le64 available;
  le64 log;
};
static_assert(sizeof(VringAddress) == 40);

inline constexpr std::size_t most_regions = 8;
struct SharedRegion {
  le64 guest_address;
  le64 bytes;
  le64 user_address;
  le64 file_offset;
};
struct MemoryTable {
  le32 regions;
  le32 padding;
  std::array<SharedRegion, most_regions> region;  // only as many as there are go over the socket
};
static_assert(sizeof(MemoryTable) == 8 + 32 * most_regions);

// In front of a piece of configuration space.
struct ConfigPiece {
  le32 offset;
  le32 bytes;
  le32 flags;
};
static_assert(sizeof(ConfigPiece) == 12);

// The servers there are send and expect the size that C gives this, padding included.
struct InflightPlace {
  le64 bytes;
  le64 file_offset;
  le16 queues;
  le16 queue_size;
  le32 padding;
};
static_assert(sizeof(InflightPlace) == 24);

static_assert(std::has_unique_object_representations_v<MemoryTable>);

}  // namespace hum::vhost_user_wire
