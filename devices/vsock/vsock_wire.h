// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "vmm/base/endian.h"

// What driver and device of a socket device exchange (virtio 1.2, 5.10).
namespace hum::vsock_wire {

// 5.10.2.
inline constexpr std::uint16_t receive_queue = 0;
inline constexpr std::uint16_t transmit_queue = 1;
inline constexpr std::uint16_t event_queue = 2;

inline constexpr std::uint64_t feature_stream = 1ull << 0;  // 5.10.3

// 5.10.4. The upper halves of CIDs are reserved and zero.
inline constexpr std::uint32_t host_cid = 2;
inline constexpr std::uint32_t first_guest_cid = 3;
inline constexpr std::uint32_t last_guest_cid = 0xfffffffe;

struct ConfigSpace {
  le64 guest_cid;
};
static_assert(sizeof(ConfigSpace) == 8);

// 5.10.6, in front of every packet. The CIDs are in halves, as the whole has no multiple of 8 bytes.
struct Header {
  le32 src_cid;
  le32 src_cid_high;
  le32 dst_cid;
  le32 dst_cid_high;
  le32 src_port;
  le32 dst_port;
  le32 len;  // of the payload
  le16 type;
  le16 op;
  le32 flags;
  le32 buf_alloc;  // the credit of the sender's peer
  le32 fwd_cnt;
};
static_assert(sizeof(Header) == 44 && std::has_unique_object_representations_v<Header>);

inline constexpr std::uint16_t type_stream = 1;

inline constexpr std::uint16_t op_request = 1;
inline constexpr std::uint16_t op_response = 2;
inline constexpr std::uint16_t op_rst = 3;
inline constexpr std::uint16_t op_shutdown = 4;
inline constexpr std::uint16_t op_rw = 5;
inline constexpr std::uint16_t op_credit_update = 6;
inline constexpr std::uint16_t op_credit_request = 7;

// 5.10.6.5: what the sender of op_shutdown does no more.
inline constexpr std::uint32_t shutdown_receive = 1;
inline constexpr std::uint32_t shutdown_send = 2;
inline constexpr std::uint32_t shutdown_both = 3;

// 5.10.6.7.
struct Event {
  le32 id;
};
static_assert(sizeof(Event) == 4);
inline constexpr std::uint32_t event_transport_reset = 0;

}  // namespace hum::vsock_wire
