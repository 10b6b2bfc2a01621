// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "vmm/base/endian.h"

// What a driver and a virtio disk exchange (virtio 1.2, 5.2).
namespace hum::block_wire {

inline constexpr std::uint64_t sector_size = 512;
inline constexpr std::size_t id_size = 20;

// 5.2.3.
inline constexpr std::uint64_t feature_seg_max = 1ull << 2;
inline constexpr std::uint64_t feature_ro = 1ull << 5;
inline constexpr std::uint64_t feature_blk_size = 1ull << 6;
inline constexpr std::uint64_t feature_flush = 1ull << 9;
inline constexpr std::uint64_t feature_topology = 1ull << 10;
inline constexpr std::uint64_t feature_config_wce = 1ull << 11;
inline constexpr std::uint64_t feature_mq = 1ull << 12;
inline constexpr std::uint64_t feature_discard = 1ull << 13;
inline constexpr std::uint64_t feature_write_zeroes = 1ull << 14;

// 5.2.6.
inline constexpr std::uint32_t type_in = 0;
inline constexpr std::uint32_t type_out = 1;
inline constexpr std::uint32_t type_flush = 4;
inline constexpr std::uint32_t type_get_id = 8;
inline constexpr std::uint32_t type_discard = 11;
inline constexpr std::uint32_t type_write_zeroes = 13;

inline constexpr std::uint8_t status_ok = 0;
inline constexpr std::uint8_t status_ioerr = 1;
inline constexpr std::uint8_t status_unsupp = 2;

// The start of struct virtio_blk_config, 5.2.4, as far as the features offered have fields in it.
struct ConfigSpace {
  le64 capacity;  // sectors
  le32 size_max;
  le32 seg_max;
  std::array<std::byte, 4> geometry;
  le32 blk_size;
  std::uint8_t physical_block_exponent;
  std::uint8_t alignment_offset;
  le16 min_io_size;
  le32 opt_io_size;
  std::uint8_t writeback;
  std::uint8_t unused;
  le16 num_queues;
  le32 max_discard_sectors;
  le32 max_discard_seg;
  le32 discard_sector_alignment;
  le32 max_write_zeroes_sectors;
  le32 max_write_zeroes_seg;
  std::uint8_t write_zeroes_may_unmap;
  std::array<std::uint8_t, 3> more_unused;
  le32 max_secure_erase_sectors;
};
// No padding: the guest would see what lies there.
static_assert(std::has_unique_object_representations_v<ConfigSpace>);
static_assert(sizeof(ConfigSpace) == 64 && offsetof(ConfigSpace, num_queues) == 34 &&
              offsetof(ConfigSpace, write_zeroes_may_unmap) == 56);

struct Header {
  le32 type;
  le32 reserved;
  le64 sector;
};
static_assert(sizeof(Header) == 16);

// One range of a discard or write zeroes request.
struct Segment {
  le64 sector;
  le32 sectors;
  le32 flags;
};
static_assert(sizeof(Segment) == 16);
inline constexpr std::uint32_t segment_unmap = 1;

// What this device takes at most in one request, and in one segment (1 GiB).
inline constexpr std::size_t most_segments = 16;
inline constexpr std::uint32_t most_segment_sectors = 1 << 21;

}  // namespace hum::block_wire
