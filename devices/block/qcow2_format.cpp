// SPDX-License-Identifier: Apache-2.0
#include "devices/block/qcow2_format.h"

#include <array>

#include "vmm/base/big_endian.h"

namespace hum {
namespace {

unsigned compressed_shift(unsigned cluster_bits) {
  return 62 - (cluster_bits - 8);
}

}  // namespace

CompressedPlace::CompressedPlace(std::uint64_t entry, unsigned cluster_bits) {
  const unsigned shift = compressed_shift(cluster_bits);
  begin = entry & ((std::uint64_t{1} << shift) - 1);
  end = begin / 512 * 512 + (((entry & ~(qcow2_own_bit | qcow2_compressed_bit)) >> shift) + 1) * 512;
}

std::uint64_t CompressedPlace::entry_for(std::uint64_t begin, std::uint64_t size, unsigned cluster_bits) {
  const std::uint64_t more_sectors = (begin + size - 1) / 512 - begin / 512;
  return qcow2_compressed_bit | more_sectors << compressed_shift(cluster_bits) | begin;
}

std::uint64_t qcow2_count_at(std::span<const std::byte> block, std::uint64_t at, unsigned bits) {
  if (bits >= 8) return load_be(block.subspan(at * (bits / 8), bits / 8));
  return std::to_integer<unsigned>(block[at * bits / 8]) >> (at * bits % 8) & ((1u << bits) - 1);
}

void set_qcow2_count(std::span<std::byte> block, std::uint64_t at, unsigned bits, std::uint64_t count) {
  if (bits >= 8) return store_be(block.subspan(at * (bits / 8), bits / 8), count);
  const auto shift = static_cast<unsigned>(at * bits % 8);
  const unsigned others = std::to_integer<unsigned>(block[at * bits / 8]) & ~(((1u << bits) - 1) << shift);
  block[at * bits / 8] = static_cast<std::byte>(others | static_cast<unsigned>(count) << shift);
}

BlockResult read_qcow2_table(ImageFile& file, std::uint64_t offset, std::uint64_t entries,
                             std::vector<std::uint64_t>& table) {
  std::vector<std::byte> bytes(entries * 8);
  if (const BlockResult result = file.read(offset, bytes); result != BlockResult::ok) return result;
  table.resize(entries);
  for (std::uint64_t i = 0; i < entries; ++i) table[i] = load_be(std::span(bytes).subspan(i * 8, 8));
  return BlockResult::ok;
}

std::vector<std::byte> encode_qcow2_table(std::span<const std::uint64_t> table) {
  std::vector<std::byte> bytes(table.size() * 8);
  for (std::uint64_t i = 0; i < table.size(); ++i) store_be(std::span(bytes).subspan(i * 8, 8), table[i]);
  return bytes;
}

BlockResult write_qcow2_entries(ImageFile& file, std::uint64_t offset, std::span<const std::uint64_t> table,
                                std::vector<std::uint64_t>& changed) {
  while (!changed.empty()) {
    std::array<std::byte, 8> entry{};
    store_be(entry, table[changed.back()]);
    if (const BlockResult result = file.write(offset + changed.back() * 8, entry); result != BlockResult::ok)
      return result;
    changed.pop_back();
  }
  return BlockResult::ok;
}

}  // namespace hum
