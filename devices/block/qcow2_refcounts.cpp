// SPDX-License-Identifier: Apache-2.0
#include "devices/block/qcow2_refcounts.h"

#include <algorithm>
#include <array>
#include <utility>

#include "devices/block/qcow2_format.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/errors.h"

namespace hum {

Qcow2Refcounts::Qcow2Refcounts(ImageFile& file, Qcow2Header& header, std::uint64_t cache_bytes)
    : file_(file), header_(header), file_end_(file.size()), blocks_(cache_bytes, header.cluster_size()) {}

void Qcow2Refcounts::read_table(const std::string& key, const std::string& path) {
  if (read_qcow2_table(file_, header_.refcount_table_offset,
                       header_.refcount_table_clusters * (cluster_size() / 8), table_) != BlockResult::ok)
    throw ConfigError(key, path, "its refcount table cannot be read", "see the host's log");
  for (const std::uint64_t host : table_) {
    if (host == 0) continue;
    if (host % cluster_size() != 0 || !in_file(host, 1) || !add_table(host))
      throw ConfigError(key, path,
                        "its refcount table has an entry that leads nowhere, or where another one does",
                        "repair it with 'hum disk check --repair all'");
  }
}

bool Qcow2Refcounts::is_table(std::uint64_t host) const {
  const auto inside = [host](std::uint64_t begin, std::uint64_t size) {
    return host >= begin && host - begin < size;
  };
  return host == 0 || inside(header_.l1_offset, std::uint64_t{header_.l1_entries} * 8) ||
         inside(header_.refcount_table_offset, header_.refcount_table_clusters * cluster_size()) ||
         tables_.contains(host);
}

bool Qcow2Refcounts::in_file(std::uint64_t host, std::uint64_t size) const {
  return host < file_end_ && size <= qcow2_largest_file && host <= qcow2_largest_file;
}

// ---- counts

BlockResult Qcow2Refcounts::load(std::uint64_t host, TableCache::Table*& block) {
  block = blocks_.find(host);
  if (block != nullptr) return BlockResult::ok;
  if (const BlockResult result = make_room(); result != BlockResult::ok) return result;
  block = &blocks_.add(host);
  const BlockResult result = file_.read(host, block->bytes);
  if (result != BlockResult::ok) blocks_.remove(host);
  return result;
}

BlockResult Qcow2Refcounts::make_room() {
  if (!blocks_.full() || blocks_.evict()) return BlockResult::ok;
  if (const BlockResult result = write(); result != BlockResult::ok) return result;
  blocks_.evict();
  return BlockResult::ok;
}

BlockResult Qcow2Refcounts::count(std::uint64_t cluster, std::uint64_t& count) {
  count = 0;
  const std::uint64_t index = cluster / per_block();
  if (index >= table_.size() || table_[index] == 0) return BlockResult::ok;
  TableCache::Table* block = nullptr;
  if (const BlockResult result = load(table_[index], block); result != BlockResult::ok) return result;
  count = qcow2_count_at(block->bytes, cluster % per_block(), header_.refcount_bits);
  return BlockResult::ok;
}

BlockResult Qcow2Refcounts::set_count(std::uint64_t cluster, std::uint64_t count) {
  const std::uint64_t index = cluster / per_block();
  if (index >= table_.size()) {
    if (const BlockResult result = grow_table(index); result != BlockResult::ok) return result;
  }
  if (table_[index] == 0) {
    if (const BlockResult result = new_block(index); result != BlockResult::ok) return result;
    if (table_[index] == cluster * cluster_size()) return BlockResult::ok;
  }
  TableCache::Table* block = nullptr;
  if (const BlockResult result = load(table_[index], block); result != BlockResult::ok) return result;
  const std::uint64_t at = cluster % per_block();
  set_qcow2_count(block->bytes, at, header_.refcount_bits, count);
  block->touch(at * header_.refcount_bits / 8, std::max(1u, header_.refcount_bits / 8));
  return BlockResult::ok;
}

// In the first cluster of those it counts: none of them was in use. It is in the file before anything leads
// to it.
BlockResult Qcow2Refcounts::new_block(std::uint64_t index) {
  const std::uint64_t host = index * per_block() * cluster_size();
  if (host >= qcow2_largest_file) return BlockResult::no_space;
  if (is_table(host)) return BlockResult::io_error;  // it is in use: the table is broken
  if (const BlockResult result = make_room(); result != BlockResult::ok) return result;
  std::vector<std::byte> bytes(cluster_size());
  set_qcow2_count(bytes, 0, header_.refcount_bits, 1);
  BlockResult result = file_.write(host, bytes);
  if (result == BlockResult::ok) result = sync();
  if (result != BlockResult::ok) return result;
  blocks_.add(host).bytes = std::move(bytes);
  table_[index] = host;
  changed_table_.push_back(index);
  add_table(host);
  file_end_ = std::max(file_end_, host + cluster_size());
  return BlockResult::ok;
}

Qcow2Refcounts::Behind Qcow2Refcounts::behind(std::uint64_t clusters) const {
  const auto last =
      std::find_if(table_.rbegin(), table_.rend(), [](std::uint64_t host) { return host != 0; });
  Behind place{};
  place.first = std::max(quotient_up(quotient_up(file_end_, cluster_size()), per_block()),
                         static_cast<std::uint64_t>(table_.rend() - last));
  place.begin = place.first * per_block();
  place.blocks = quotient_up(clusters, per_block() - 1);
  return place;
}

// Into the file and into table, which has room for them; they lead nowhere until that is in the file.
BlockResult Qcow2Refcounts::write_blocks(const Behind& place, std::uint64_t clusters,
                                         std::vector<std::uint64_t>& table) {
  std::vector<std::byte> bytes(cluster_size());
  for (std::uint64_t i = 0; i < place.blocks; ++i) {
    std::fill(bytes.begin(), bytes.end(), std::byte{0});
    const std::uint64_t left = place.blocks + clusters - i * per_block();
    for (std::uint64_t at = 0; at < std::min(per_block(), left); ++at)
      set_qcow2_count(bytes, at, header_.refcount_bits, 1);
    table[place.first + i] = (place.begin + i) * cluster_size();
    if (const BlockResult result = file_.write(table[place.first + i], bytes); result != BlockResult::ok)
      return result;
  }
  return BlockResult::ok;
}

// A larger table behind all that is in use, with the blocks that count its own clusters; then the header
// leads to it.
BlockResult Qcow2Refcounts::grow_table(std::uint64_t index) {
  // All that the old table has is in the file before the new one takes over.
  if (const BlockResult result = write(); result != BlockResult::ok) return result;
  const std::uint64_t per_cluster = cluster_size() / 8;
  // The table itself and its blocks are counted, too: half as much again has room for them.
  const std::uint64_t clusters = std::min(quotient_up(index + 1 + (index + 1) / 2 + 8, per_cluster),
                                          qcow2_most_refcount_table_size / cluster_size());
  const Behind place = behind(clusters);
  if (std::max(index + 1, place.first + place.blocks) > clusters * per_cluster) return BlockResult::no_space;
  if ((place.begin + place.blocks + clusters) * cluster_size() > qcow2_largest_file)
    return BlockResult::no_space;

  std::vector<std::uint64_t> table(clusters * per_cluster);
  std::copy(table_.begin(), table_.end(), table.begin());
  if (const BlockResult result = write_blocks(place, clusters, table); result != BlockResult::ok)
    return result;
  const std::uint64_t offset = (place.begin + place.blocks) * cluster_size();
  BlockResult result = file_.write(offset, encode_qcow2_table(table));
  if (result == BlockResult::ok) result = sync();
  if (result != BlockResult::ok) return result;
  // refcount_table_offset and refcount_table_clusters stand side by side in one sector.
  std::array<std::byte, 12> where{};
  store_be(std::span(where).first(8), offset);
  store_be(std::span(where).subspan(8, 4), clusters);
  result = file_.write(48, where);
  if (result == BlockResult::ok) result = sync();
  if (result != BlockResult::ok) return fail(result);

  for (std::uint64_t i = 0; i < header_.refcount_table_clusters; ++i)
    free_later(header_.refcount_table_offset + i * cluster_size());
  for (std::uint64_t i = 0; i < place.blocks; ++i) add_table(table[place.first + i]);
  table_ = std::move(table);
  header_.refcount_table_offset = offset;
  header_.refcount_table_clusters = static_cast<std::uint32_t>(clusters);
  file_end_ = std::max(file_end_, offset + clusters * cluster_size());
  return BlockResult::ok;
}

// ---- clusters

BlockResult Qcow2Refcounts::allocate(std::uint64_t most, Run& run) {
  if (failed_) return BlockResult::io_error;
  std::uint64_t cluster = first_free_;
  std::uint64_t first = 0;
  std::uint64_t taken = 0;
  while (taken < most) {
    std::uint64_t used = 0;
    if (const BlockResult result = count(cluster, used); result != BlockResult::ok) return result;
    if (used == 0 && taken == 0) first = cluster;
    if (used != 0 && taken != 0) break;
    if (used == 0) {
      if ((cluster + 1) * cluster_size() > qcow2_largest_file) return BlockResult::no_space;
      // Its refcount may need a block of refcounts, which takes a cluster itself: perhaps this one.
      if (const BlockResult result = set_count(cluster, 1); result != BlockResult::ok) {
        if (taken != 0) break;
        return result;
      }
      if (is_table(cluster * cluster_size())) {
        if (taken != 0) break;
      } else {
        ++taken;
      }
    }
    ++cluster;
  }
  first_free_ = cluster;
  run = {first * cluster_size(), taken};
  file_end_ = std::max(file_end_, (first + taken) * cluster_size());
  return BlockResult::ok;
}

BlockResult Qcow2Refcounts::allocate_adjacent(std::uint64_t clusters, Run& run) {
  if (failed_) return BlockResult::io_error;
  // Where there is room, then at the end; blocks of refcounts may lie between in both.
  for (const bool at_end : {false, true}) {
    const std::uint64_t first_free = first_free_;
    if (at_end) first_free_ = quotient_up(file_end_, cluster_size());
    const BlockResult result = allocate(clusters, run);
    if (result == BlockResult::ok && run.clusters == clusters) {
      if (at_end) first_free_ = first_free;
      return result;
    }
    if (result == BlockResult::ok) release(run);
    first_free_ = first_free;
    if (result != BlockResult::ok) return result;
  }
  Behind place = behind(clusters);
  if (place.first + place.blocks > table_.size()) {
    if (const BlockResult result = grow_table(place.first + place.blocks); result != BlockResult::ok)
      return result;
    place = behind(clusters);
  }
  if (place.first + place.blocks > table_.size() ||
      (place.begin + place.blocks + clusters) * cluster_size() > qcow2_largest_file)
    return BlockResult::no_space;
  std::vector<std::uint64_t> table = table_;
  BlockResult result = write_blocks(place, clusters, table);
  if (result == BlockResult::ok) result = sync();
  if (result != BlockResult::ok) return result;
  table_ = std::move(table);
  for (std::uint64_t i = 0; i < place.blocks; ++i) {
    changed_table_.push_back(place.first + i);
    add_table(table_[place.first + i]);
  }
  run = {(place.begin + place.blocks) * cluster_size(), clusters};
  file_end_ = std::max(file_end_, run.host + clusters * cluster_size());
  return BlockResult::ok;
}

void Qcow2Refcounts::release(const Run& run) {
  for (std::uint64_t i = 0; i < run.clusters; ++i) {
    const std::uint64_t cluster = run.host / cluster_size() + i;
    if (set_count(cluster, 0) == BlockResult::ok) first_free_ = std::min(first_free_, cluster);
  }
}

void Qcow2Refcounts::settle() {
  const auto end = freed_.begin() + static_cast<std::ptrdiff_t>(std::exchange(gone_, 0));
  const std::vector<std::uint64_t> gone(freed_.begin(), end);
  freed_.erase(freed_.begin(), end);
  for (const std::uint64_t host : gone) {
    const std::uint64_t cluster = host / cluster_size();
    std::uint64_t left = 0;
    // What cannot be counted down is lost to the image, no more.
    if (count(cluster, left) != BlockResult::ok || left == 0) continue;
    if (set_count(cluster, --left) == BlockResult::ok && left == 0)
      first_free_ = std::min(first_free_, cluster);
  }
}

// ---- writing out

BlockResult write_dirty_tables(ImageFile& file, TableCache& cache) {
  for (TableCache::Table& each : cache.tables()) {
    if (!each.dirty()) continue;
    const auto part = std::span(each.bytes).subspan(each.dirty_begin, each.dirty_end - each.dirty_begin);
    if (const BlockResult result = file.write(each.host + each.dirty_begin, part); result != BlockResult::ok)
      return result;
    each.clean();
  }
  return BlockResult::ok;
}

BlockResult Qcow2Refcounts::sync() {
  const BlockResult result = file_.sync();
  return result == BlockResult::ok ? result : fail(result);
}

BlockResult Qcow2Refcounts::fail(BlockResult result) {
  failed_ = true;
  return result;
}

BlockResult Qcow2Refcounts::write() {
  if (failed_) return BlockResult::io_error;
  if (const BlockResult result = write_dirty_tables(file_, blocks_); result != BlockResult::ok) return result;
  return write_qcow2_entries(file_, header_.refcount_table_offset, table_, changed_table_);
}

}  // namespace hum
