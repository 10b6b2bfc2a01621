// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "vmm/base/endian.h"

// What driver and device of a memory balloon exchange (virtio 1.2, 5.5).
namespace hum::balloon_wire {

// 5.5.2, also what the queues are for.
inline constexpr std::uint16_t inflate_queue = 0;
inline constexpr std::uint16_t deflate_queue = 1;
inline constexpr std::uint16_t statistics_queue = 2;
inline constexpr std::uint16_t hinting_queue = 3;
inline constexpr std::uint16_t reporting_queue = 4;
inline constexpr std::size_t queue_count = 5;

// 5.5.3.
inline constexpr std::uint64_t feature_statistics = 1ull << 1;
inline constexpr std::uint64_t feature_deflate_on_oom = 1ull << 2;
inline constexpr std::uint64_t feature_hinting = 1ull << 3;
inline constexpr std::uint64_t feature_poison = 1ull << 4;
inline constexpr std::uint64_t feature_reporting = 1ull << 5;

// 5.5.4. The driver writes actual and poison.
struct ConfigSpace {
  le32 target;  // pages
  le32 actual;  // pages
  le32 hinting_command;
  le32 poison;  // what fills free pages
};
static_assert(sizeof(ConfigSpace) == 16);

// Of a page number, whatever the guest's own pages are (5.5.6).
inline constexpr std::uint64_t page_bytes = 4096;

// 5.5.6.3. The value is not aligned.
struct Statistic {
  le16 tag;
  std::array<std::byte, 8> value;
};
static_assert(sizeof(Statistic) == 10 && std::has_unique_object_representations_v<Statistic>);

// 5.5.6.5: commands that are no round of hints.
inline constexpr std::uint32_t hinting_stop = 0;
inline constexpr std::uint32_t hinting_done = 1;
inline constexpr std::uint32_t first_hinting_round = 2;

}  // namespace hum::balloon_wire
