// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "devices/block/qcow2_check.h"
#include "devices/block/qcow2_format.h"
#include "vmm/base/big_endian.h"

namespace hum {

BlockResult Qcow2Check::repair(bool all) {
  BlockResult result = BlockResult::ok;
  if (all && findings_.errors() != 0) {
    result = rebuild_counts();
    if (result == BlockResult::ok) run();
    if (result == BlockResult::ok) result = repair_flags();
  } else if (findings_.leaks() != 0 && entries_are_sound()) {
    result = repair_leaks();
  }
  if (result == BlockResult::ok && run().errors() == 0) result = mark_clean();
  return result;
}

bool Qcow2Check::entries_are_sound() const {
  return findings_.count(Kind::bad_entry) + findings_.count(Kind::past_end) + findings_.count(Kind::overlap) +
             findings_.count(Kind::unreadable) ==
         0;
}

BlockResult Qcow2Check::repair_leaks() {
  const std::uint64_t per_block = cluster_size() * 8 / header_.refcount_bits;
  std::vector<std::byte> block(cluster_size());
  for (const auto& [index, host] : blocks_) {
    if (const BlockResult result = file_.read(host, block); result != BlockResult::ok) return result;
    bool changed = false;
    for (std::uint64_t i = 0; i < per_block; ++i) {
      const std::uint64_t uses = uses_.at(index * per_block + i);
      if (qcow2_count_at(block, i, header_.refcount_bits) <= uses) continue;
      set_qcow2_count(block, i, header_.refcount_bits, uses);
      changed = true;
    }
    if (!changed) continue;
    if (const BlockResult result = file_.write(host, block); result != BlockResult::ok) return result;
  }
  return file_.sync();
}

BlockResult Qcow2Check::rebuild_counts() {
  ClusterCounts counts = uses_;
  for (const std::uint64_t cluster : count_clusters_) --counts[cluster];
  const std::uint64_t per_block = cluster_size() * 8 / header_.refcount_bits;
  const std::uint64_t most = header_.refcount_bits >= 32 ? UINT32_MAX : (1u << header_.refcount_bits) - 1;
  std::map<std::uint64_t, std::uint64_t> blocks;  // index in the table, where
  bool countable = true;
  counts.each([&](std::uint64_t cluster, std::uint32_t count) {
    blocks[cluster / per_block] = 0;
    countable = countable && count <= most;
  });
  if (!countable) return BlockResult::unsupported;
  // The blocks and behind them the table count themselves.
  const std::uint64_t begin = std::max(quotient_up(file_.size(), cluster_size()), uses_.end());
  std::uint64_t table_clusters = 1;
  for (std::size_t before = 0; before != blocks.size() + table_clusters;) {
    before = blocks.size() + table_clusters;
    for (std::uint64_t i = 0; i < before; ++i) blocks[(begin + i) / per_block] = 0;
    table_clusters = quotient_up((blocks.rbegin()->first + 1) * 8, cluster_size());
  }
  if (table_clusters * cluster_size() > qcow2_most_refcount_table_size) return BlockResult::unsupported;
  const std::uint64_t table_begin = begin + blocks.size();
  for (std::uint64_t i = begin; i < table_begin + table_clusters; ++i) counts[i] = 1;

  std::vector<std::uint64_t> table(table_clusters * cluster_size() / 8);
  std::vector<std::byte> bytes(cluster_size());
  std::uint64_t next = begin;
  for (auto& [index, host] : blocks) {
    for (std::uint64_t i = 0; i < per_block; ++i)
      set_qcow2_count(bytes, i, header_.refcount_bits, counts.at(index * per_block + i));
    table[index] = host = next++ * cluster_size();
    if (const BlockResult result = file_.write(host, bytes); result != BlockResult::ok) return result;
  }
  BlockResult result = file_.write(table_begin * cluster_size(), encode_qcow2_table(table));
  if (result == BlockResult::ok) result = file_.sync();
  std::array<std::byte, 12> where{};
  store_be(std::span(where).first(8), table_begin * cluster_size());
  store_be(std::span(where).subspan(8, 4), table_clusters);
  if (result == BlockResult::ok) result = file_.write(48, where);
  if (result == BlockResult::ok) result = file_.sync();
  if (result != BlockResult::ok) return result;
  header_.refcount_table_offset = table_begin * cluster_size();
  header_.refcount_table_clusters = static_cast<std::uint32_t>(table_clusters);
  return BlockResult::ok;
}

BlockResult Qcow2Check::repair_flags() {
  for (const Entry& each : flags_) {
    std::array<std::byte, 8> bytes{};
    store_be(bytes, each.value);
    if (const BlockResult result = file_.write(each.place, bytes); result != BlockResult::ok) return result;
  }
  return file_.sync();
}

BlockResult Qcow2Check::mark_clean() {
  if (!header_.dirty && !header_.corrupt) return BlockResult::ok;
  // The low byte of the incompatible features: dirty, corrupt, and others that stay.
  std::array<std::byte, 1> features{};
  if (const BlockResult result = file_.read(79, features); result != BlockResult::ok) return result;
  features[0] &= ~std::byte{3};
  if (const BlockResult result = file_.write(79, features); result != BlockResult::ok) return result;
  return file_.sync();
}

}  // namespace hum
