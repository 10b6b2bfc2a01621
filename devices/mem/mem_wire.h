// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "vmm/base/endian.h"

// What a driver and a memory device exchange (virtio 1.2, 5.15).
namespace hum::mem_wire {

// 5.15.3.
inline constexpr std::uint64_t feature_unplugged_inaccessible = 1ull << 1;

// 5.15.4.
struct ConfigSpace {
  le64 block_size;
  le16 node_id;
  std::array<std::uint8_t, 6> padding;
  le64 address;
  le64 region_size;
  le64 usable_region_size;
  le64 plugged_size;
  le64 requested_size;
};
static_assert(sizeof(ConfigSpace) == 56);

// 5.15.6.
inline constexpr std::uint16_t type_plug = 0;
inline constexpr std::uint16_t type_unplug = 1;
inline constexpr std::uint16_t type_unplug_all = 2;
inline constexpr std::uint16_t type_state = 3;

struct Request {
  le16 type;
  std::array<std::uint8_t, 6> padding;
  le64 address;
  le16 blocks;
  std::array<std::uint8_t, 6> more_padding;
};
static_assert(sizeof(Request) == 24);

struct Response {
  le16 type;
  std::array<std::uint8_t, 6> padding;
  le16 state;
};
static_assert(sizeof(Response) == 10);

}  // namespace hum::mem_wire
