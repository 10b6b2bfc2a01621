// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "devices/block/image_file.h"

// What a qcow2 image's tables are made of, for those that read or write them. Source: QEMU,
// docs/interop/qcow2.
namespace hum {

// Of L1 and L2 entries.
inline constexpr std::uint64_t qcow2_offset_bits = 0x00ff'ffff'ffff'fe00;  // 9 to 55
inline constexpr std::uint64_t qcow2_own_bit = std::uint64_t{1} << 63;     // "copied": the refcount is 1
// Of L2 entries.
inline constexpr std::uint64_t qcow2_compressed_bit = std::uint64_t{1} << 62;
inline constexpr std::uint64_t qcow2_zero_bit = 1;  // version 3

inline constexpr std::uint64_t qcow2_largest_file = std::uint64_t{1} << 56;  // bytes
inline constexpr std::uint64_t qcow2_most_l1_size = 32 << 20;                // bytes
inline constexpr std::uint64_t qcow2_most_refcount_table_size = 8 << 20;     // bytes

// Where an L2 entry says that a compressed cluster is: from a byte to the end of a sector.
struct CompressedPlace {
  CompressedPlace(std::uint64_t entry, unsigned cluster_bits);
  // The entry for bytes of the file.
  static std::uint64_t entry_for(std::uint64_t begin, std::uint64_t size, unsigned cluster_bits);

  std::uint64_t begin;
  std::uint64_t end;
};

// A reference count of so many bits in a block of them: those below a byte fill it from its lowest bit on.
std::uint64_t qcow2_count_at(std::span<const std::byte> block, std::uint64_t at, unsigned bits);
void set_qcow2_count(std::span<std::byte> block, std::uint64_t at, unsigned bits, std::uint64_t count);

inline std::uint64_t quotient_up(std::uint64_t value, std::uint64_t by) {
  return value / by + (value % by != 0 ? 1 : 0);
}

// A table of 8-byte entries as it is in the file, and back.
BlockResult read_qcow2_table(ImageFile& file, std::uint64_t offset, std::uint64_t entries,
                             std::vector<std::uint64_t>& table);
std::vector<std::byte> encode_qcow2_table(std::span<const std::uint64_t> table);
// Writes the entries with the indices in changed, which is empty then.
BlockResult write_qcow2_entries(ImageFile& file, std::uint64_t offset, std::span<const std::uint64_t> table,
                                std::vector<std::uint64_t>& changed);

}  // namespace hum
