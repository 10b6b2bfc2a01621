// SPDX-License-Identifier: Apache-2.0
#include "devices/block/qcow2_tables.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "devices/block/big_endian.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint64_t offset_bits = 0x00ff'ffff'ffff'fe00;  // 9 to 55
constexpr std::uint64_t own_bit = std::uint64_t{1} << 63;     // "copied": the refcount is 1
constexpr std::uint64_t compressed_bit = std::uint64_t{1} << 62;
constexpr std::uint64_t zero_bit = 1;  // version 3
constexpr std::uint64_t largest_file = std::uint64_t{1} << 56;

std::uint64_t entry_of(const TableCache::Table& table, std::uint64_t index) {
  return load_be(std::span(table.bytes).subspan(index * 8, 8));
}

void set_entry(TableCache::Table& table, std::uint64_t index, std::uint64_t entry) {
  store_be(std::span(table.bytes).subspan(index * 8, 8), entry);
  table.touch(index * 8, 8);
}

// Where an L2 entry says that a compressed cluster is: from a byte to the end of a sector.
struct CompressedPlace {
  CompressedPlace(std::uint64_t entry, unsigned cluster_bits) {
    const unsigned shift = 62 - (cluster_bits - 8);
    begin = entry & ((std::uint64_t{1} << shift) - 1);
    end = begin / 512 * 512 + (((entry & ~(own_bit | compressed_bit)) >> shift) + 1) * 512;
  }

  std::uint64_t begin;
  std::uint64_t end;
};

// A reference count of so many bits in a block of them: those below a byte fill it from its lowest bit on.
std::uint64_t count_at(std::span<const std::byte> block, std::uint64_t at, unsigned bits) {
  if (bits >= 8) return load_be(block.subspan(at * (bits / 8), bits / 8));
  return std::to_integer<unsigned>(block[at * bits / 8]) >> (at * bits % 8) & ((1u << bits) - 1);
}

void set_count(std::span<std::byte> block, std::uint64_t at, unsigned bits, std::uint64_t count) {
  if (bits >= 8) return store_be(block.subspan(at * (bits / 8), bits / 8), count);
  const auto shift = static_cast<unsigned>(at * bits % 8);
  const unsigned others = std::to_integer<unsigned>(block[at * bits / 8]) & ~(((1u << bits) - 1) << shift);
  block[at * bits / 8] = static_cast<std::byte>(others | static_cast<unsigned>(count) << shift);
}

std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) {
  return value / by + (value % by != 0 ? 1 : 0);
}

}  // namespace

Qcow2Tables::Qcow2Tables(const std::string& key, const std::string& path, ImageFile& file,
                         const Qcow2Header& header, std::uint64_t cache_bytes, bool read_only)
    : file_(file),
      header_(header),
      file_end_(file.size()),
      l2_(cache_bytes, header.cluster_size()),
      refcounts_(read_only ? 0 : cache_bytes, header.cluster_size()) {
  read_l1(key, path);
  if (read_only) return;
  read_refcount_table(key, path);
  // Each cluster that has data is then whole.
  const std::uint64_t end = divide_up(file_end_, cluster_size()) * cluster_size();
  if (file_end_ == end) return;
  const std::array<std::byte, 1> last{};
  if (file.write(end - 1, last) != BlockResult::ok)
    throw ConfigError(key, path, "cannot be made longer",
                      "make room on its file system, or use it read-only");
  file_end_ = end;
}

namespace {

// A table of 8-byte entries that are offsets of clusters in the file.
std::vector<std::uint64_t> read_table(const std::string& key, const std::string& path, ImageFile& file,
                                      std::uint64_t offset, std::uint64_t entries, const std::string& what) {
  std::vector<std::byte> bytes(entries * 8);
  if (file.read(offset, bytes) != BlockResult::ok)
    throw ConfigError(key, path, "its " + what + " cannot be read", "see the host's log");
  std::vector<std::uint64_t> table(entries);
  for (std::uint64_t i = 0; i < entries; ++i) table[i] = load_be(std::span(bytes).subspan(i * 8, 8));
  return table;
}

}  // namespace

void Qcow2Tables::read_l1(const std::string& key, const std::string& path) {
  l1_ = read_table(key, path, file_, header_.l1_offset, header_.l1_entries, "L1 table");
  for (const std::uint64_t entry : l1_) {
    const std::uint64_t host = entry & offset_bits;
    if (host == 0 && entry == 0) continue;
    if ((entry & ~(offset_bits | own_bit)) != 0 || host == 0 || host % cluster_size() != 0 ||
        !in_file(host, 1))
      throw ConfigError(key, path, "its L1 table has an entry that leads nowhere",
                        "repair it with qemu-img check -r all");
    if (!tables_.insert(host).second)
      throw ConfigError(key, path, "its L1 table leads to one L2 table twice",
                        "repair it with qemu-img check -r all");
  }
}

void Qcow2Tables::read_refcount_table(const std::string& key, const std::string& path) {
  refcount_table_ = read_table(key, path, file_, header_.refcount_table_offset,
                               header_.refcount_table_clusters * (cluster_size() / 8), "refcount table");
  for (const std::uint64_t host : refcount_table_) {
    if (host == 0) continue;
    if (host % cluster_size() != 0 || !in_file(host, 1) || !tables_.insert(host).second)
      throw ConfigError(key, path,
                        "its refcount table has an entry that leads nowhere, or where another one does",
                        "repair it with qemu-img check -r all");
  }
}

// Whether the host's cluster holds metadata that this image uses now.
bool Qcow2Tables::is_table(std::uint64_t host) const {
  const auto inside = [host](std::uint64_t begin, std::uint64_t size) {
    return host >= begin && host - begin < size;
  };
  return host == 0 || inside(header_.l1_offset, std::uint64_t{header_.l1_entries} * 8) ||
         inside(header_.refcount_table_offset, header_.refcount_table_clusters * cluster_size()) ||
         tables_.contains(host);
}

// Whether at least a part of the range has ever been written.
bool Qcow2Tables::in_file(std::uint64_t host, std::uint64_t size) const {
  return host < file_end_ && size <= largest_file && host <= largest_file;
}

bool Qcow2Tables::good_data(std::uint64_t host) const {
  return host != 0 && host % cluster_size() == 0 && in_file(host, cluster_size());
}

BlockResult Qcow2Tables::load(TableCache& cache, std::uint64_t host, TableCache::Table*& table) {
  table = cache.find(host);
  if (table != nullptr) return BlockResult::ok;
  if (const BlockResult result = make_room(cache); result != BlockResult::ok) return result;
  table = &cache.add(host);
  const BlockResult result = file_.read(host, table->bytes);
  if (result != BlockResult::ok) cache.remove(host);
  return result;
}

BlockResult Qcow2Tables::make_room(TableCache& cache) {
  if (!cache.full() || cache.evict()) return BlockResult::ok;
  if (const BlockResult result = write_out(); result != BlockResult::ok) return result;
  cache.evict();
  return BlockResult::ok;
}

// Null: there is none. for_change: it is made, or made this image's own.
BlockResult Qcow2Tables::l2_table(std::uint64_t offset, bool for_change, TableCache::Table*& table) {
  const std::uint64_t index = offset / cluster_size() / l2_entries();
  const std::uint64_t entry = l1_[index];
  table = nullptr;
  if (for_change && (entry & own_bit) == 0) return new_l2_table(index, table);
  return entry == 0 ? BlockResult::ok : load(l2_, entry & offset_bits, table);
}

BlockResult Qcow2Tables::new_l2_table(std::uint64_t index, TableCache::Table*& table) {
  const std::uint64_t old = l1_[index] & offset_bits;
  std::vector<std::byte> content(cluster_size());
  if (old != 0) {
    TableCache::Table* shared = nullptr;
    if (const BlockResult result = load(l2_, old, shared); result != BlockResult::ok) return result;
    content = shared->bytes;
  }
  if (const BlockResult result = make_room(l2_); result != BlockResult::ok) return result;
  Run run;
  if (const BlockResult result = allocate(1, run); result != BlockResult::ok) return result;
  table = &l2_.add(run.host);
  table->bytes = std::move(content);
  table->touch(0, cluster_size());
  l1_[index] = run.host | own_bit;
  changed_l1_.push_back(index);
  tables_.insert(run.host);
  if (old != 0) {
    // A snapshot has it still.
    tables_.erase(old);
    freed_.push_back(old);
  }
  return BlockResult::ok;
}

BlockResult Qcow2Tables::find(std::uint64_t offset, std::uint64_t size, Extent& extent) {
  TableCache::Table* table = nullptr;
  if (const BlockResult result = l2_table(offset, false, table); result != BlockResult::ok) return result;
  const std::uint64_t in_cluster = offset % cluster_size();
  std::uint64_t index = offset / cluster_size() % l2_entries();
  const std::uint64_t in_table = (l2_entries() - index) * cluster_size() - in_cluster;
  extent = {.size = std::min(size, in_table)};
  if (table == nullptr) return BlockResult::ok;

  const auto read = [&](std::uint64_t at, Extent& one) {
    const std::uint64_t entry = entry_of(*table, at);
    const std::uint64_t host = entry & offset_bits;
    if ((entry & compressed_bit) != 0) {
      const CompressedPlace place(entry, header_.cluster_bits);
      one.place = Place::compressed;
      one.host = place.begin;
      one.compressed_size = place.end - place.begin;
      return in_file(one.host, one.compressed_size);
    }
    if ((entry & ~(offset_bits | own_bit | zero_bit)) != 0 ||
        ((entry & zero_bit) != 0 && header_.version < 3))
      return false;
    if ((entry & zero_bit) != 0) {
      one.place = Place::zero;
      return true;
    }
    if (host == 0) return true;
    one.place = Place::data;
    one.host = host;
    one.own = (entry & own_bit) != 0;
    return good_data(host);
  };

  Extent first;
  if (!read(index, first)) return BlockResult::io_error;
  extent.place = first.place;
  extent.own = first.own;
  extent.compressed_size = first.compressed_size;
  extent.host = first.place == Place::data ? first.host + in_cluster : first.host;
  std::uint64_t found = cluster_size() - in_cluster;
  if (first.place == Place::compressed) {
    extent.size = std::min(extent.size, found);
    return BlockResult::ok;
  }
  while (found < extent.size) {
    Extent next;
    if (!read(++index, next) || next.place != first.place || next.own != first.own) break;
    if (next.place == Place::data && next.host != extent.host + found) break;
    found += cluster_size();
  }
  extent.size = std::min(extent.size, found);
  return BlockResult::ok;
}

BlockResult Qcow2Tables::check_own(const Extent& extent) {
  const std::uint64_t begin = extent.host / cluster_size() * cluster_size();
  for (std::uint64_t host = begin; host < extent.host + extent.size; host += cluster_size()) {
    std::uint64_t count = 0;
    if (const BlockResult result = refcount(host / cluster_size(), count); result != BlockResult::ok)
      return result;
    if (count != 1 || is_table(host)) return BlockResult::io_error;
  }
  return BlockResult::ok;
}

BlockResult Qcow2Tables::allocate(std::uint64_t most, Run& run) {
  if (failed_) return BlockResult::io_error;
  std::uint64_t cluster = first_free_;
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  while (count < most) {
    std::uint64_t used = 0;
    if (const BlockResult result = refcount(cluster, used); result != BlockResult::ok) return result;
    if (used == 0 && count == 0) first = cluster;
    if (used != 0 && count != 0) break;
    if (used == 0) {
      if ((cluster + 1) * cluster_size() > largest_file) return BlockResult::no_space;
      // Its refcount may need a block of refcounts, which takes a cluster itself: perhaps this one.
      if (const BlockResult result = set_refcount(cluster, 1); result != BlockResult::ok) {
        if (count != 0) break;
        return result;
      }
      if (is_table(cluster * cluster_size())) {
        if (count != 0) break;
      } else {
        ++count;
      }
    }
    ++cluster;
  }
  first_free_ = cluster;
  run = {first * cluster_size(), count};
  file_end_ = std::max(file_end_, (first + count) * cluster_size());
  return BlockResult::ok;
}

void Qcow2Tables::release(const Run& run) {
  for (std::uint64_t i = 0; i < run.clusters; ++i) {
    const std::uint64_t cluster = run.host / cluster_size() + i;
    if (set_refcount(cluster, 0) == BlockResult::ok) first_free_ = std::min(first_free_, cluster);
  }
}

BlockResult Qcow2Tables::link(std::uint64_t offset, const Run& run) {
  for (std::uint64_t i = 0; i < run.clusters; ++i) {
    const std::uint64_t host = run.host + i * cluster_size();
    const BlockResult result = change(offset + i * cluster_size(), host | own_bit);
    if (result == BlockResult::ok) continue;
    release({host, run.clusters - i});
    return result;
  }
  return BlockResult::ok;
}

BlockResult Qcow2Tables::unlink(std::uint64_t offset, std::uint64_t clusters, Place as) {
  const std::uint64_t entry = as == Place::zero ? zero_bit : 0;
  for (std::uint64_t i = 0; i < clusters; ++i) {
    const std::uint64_t at = offset + i * cluster_size();
    if (entry == 0 && l1_[at / cluster_size() / l2_entries()] == 0) continue;
    if (const BlockResult result = change(at, entry); result != BlockResult::ok) return result;
  }
  return BlockResult::ok;
}

BlockResult Qcow2Tables::change(std::uint64_t offset, std::uint64_t entry) {
  TableCache::Table* table = nullptr;
  if (const BlockResult result = l2_table(offset, true, table); result != BlockResult::ok) return result;
  const std::uint64_t index = offset / cluster_size() % l2_entries();
  const std::uint64_t old = entry_of(*table, index);
  if (old == entry) return BlockResult::ok;
  if (const BlockResult result = free_entry(old); result != BlockResult::ok) return result;
  set_entry(*table, index, entry);
  return BlockResult::ok;
}

// The refcounts change when the entry is gone from the file.
BlockResult Qcow2Tables::free_entry(std::uint64_t entry) {
  if ((entry & compressed_bit) != 0) {
    const CompressedPlace place(entry, header_.cluster_bits);
    const std::uint64_t begin = place.begin;
    const std::uint64_t end = place.end;
    if (!in_file(begin, end - begin)) return BlockResult::io_error;
    for (std::uint64_t host = begin / cluster_size() * cluster_size(); host < end; host += cluster_size())
      freed_.push_back(host);
    return BlockResult::ok;
  }
  const std::uint64_t host = entry & offset_bits;
  if (host == 0) return BlockResult::ok;
  if (!good_data(host) || is_table(host)) return BlockResult::io_error;
  freed_.push_back(host);
  return BlockResult::ok;
}

// ---- refcounts

BlockResult Qcow2Tables::refcount(std::uint64_t cluster, std::uint64_t& count) {
  count = 0;
  const std::uint64_t index = cluster / refcounts_per_block();
  if (index >= refcount_table_.size() || refcount_table_[index] == 0) return BlockResult::ok;
  TableCache::Table* block = nullptr;
  if (const BlockResult result = load(refcounts_, refcount_table_[index], block); result != BlockResult::ok)
    return result;
  count = count_at(block->bytes, cluster % refcounts_per_block(), header_.refcount_bits);
  return BlockResult::ok;
}

BlockResult Qcow2Tables::set_refcount(std::uint64_t cluster, std::uint64_t count) {
  const std::uint64_t index = cluster / refcounts_per_block();
  if (index >= refcount_table_.size()) {
    if (const BlockResult result = grow_refcount_table(index); result != BlockResult::ok) return result;
  }
  if (refcount_table_[index] == 0) {
    if (const BlockResult result = new_refcount_block(index); result != BlockResult::ok) return result;
    if (refcount_table_[index] == cluster * cluster_size()) return BlockResult::ok;
  }
  TableCache::Table* block = nullptr;
  if (const BlockResult result = load(refcounts_, refcount_table_[index], block); result != BlockResult::ok)
    return result;
  const std::uint64_t at = cluster % refcounts_per_block();
  set_count(block->bytes, at, header_.refcount_bits, count);
  block->touch(at * header_.refcount_bits / 8, std::max(1u, header_.refcount_bits / 8));
  return BlockResult::ok;
}

// In the first cluster of those it counts: none of them was in use. It is in the file before anything leads
// to it.
BlockResult Qcow2Tables::new_refcount_block(std::uint64_t index) {
  const std::uint64_t host = index * refcounts_per_block() * cluster_size();
  if (host >= largest_file) return BlockResult::no_space;
  if (const BlockResult result = make_room(refcounts_); result != BlockResult::ok) return result;
  std::vector<std::byte> bytes(cluster_size());
  set_count(bytes, 0, header_.refcount_bits, 1);
  BlockResult result = file_.write(host, bytes);
  if (result == BlockResult::ok) result = file_.sync();
  if (result != BlockResult::ok) return result;
  refcounts_.add(host).bytes = std::move(bytes);
  refcount_table_[index] = host;
  changed_refcount_table_.push_back(index);
  tables_.insert(host);
  file_end_ = std::max(file_end_, host + cluster_size());
  return BlockResult::ok;
}

// A larger table behind all that is in use, with the blocks that count its own clusters; then the header
// leads to it.
BlockResult Qcow2Tables::grow_refcount_table(std::uint64_t index) {
  // All that the old table has is in the file before the new one takes over.
  if (const BlockResult result = write_out(); result != BlockResult::ok) return result;
  const std::uint64_t per_cluster = cluster_size() / 8;
  // The table itself and its blocks are counted, too: half as much again has room for them.
  const std::uint64_t clusters = divide_up(index + 1 + (index + 1) / 2 + 8, per_cluster);
  const std::uint64_t begin_cluster =
      std::max(divide_up(file_end_, cluster_size()), refcount_table_.size() * refcounts_per_block());
  const std::uint64_t first_block = begin_cluster / refcounts_per_block();
  // [blocks][table], from a block's first cluster on, so that each block counts only what is behind it.
  const std::uint64_t begin = first_block * refcounts_per_block() == begin_cluster
                                  ? begin_cluster
                                  : (first_block + 1) * refcounts_per_block();
  std::uint64_t blocks = 1;
  while (blocks * refcounts_per_block() < blocks + clusters) ++blocks;
  const std::uint64_t first = begin / refcounts_per_block();
  if (first + blocks > clusters * per_cluster) return BlockResult::no_space;
  if ((begin + blocks + clusters) * cluster_size() > largest_file) return BlockResult::no_space;

  std::vector<std::uint64_t> table(clusters * per_cluster);
  std::copy(refcount_table_.begin(), refcount_table_.end(), table.begin());
  std::vector<std::byte> bytes(cluster_size());
  for (std::uint64_t i = 0; i < blocks; ++i) {
    std::fill(bytes.begin(), bytes.end(), std::byte{0});
    for (std::uint64_t at = 0; at < refcounts_per_block(); ++at) {
      if (i * refcounts_per_block() + at >= blocks + clusters) break;
      set_count(bytes, at, header_.refcount_bits, 1);
    }
    table[first + i] = (begin + i) * cluster_size();
    if (const BlockResult result = file_.write(table[first + i], bytes); result != BlockResult::ok)
      return result;
  }
  const std::uint64_t offset = (begin + blocks) * cluster_size();
  std::vector<std::byte> table_bytes(clusters * cluster_size());
  for (std::uint64_t i = 0; i < table.size(); ++i)
    store_be(std::span(table_bytes).subspan(i * 8, 8), table[i]);
  BlockResult result = file_.write(offset, table_bytes);
  if (result == BlockResult::ok) result = file_.sync();
  if (result != BlockResult::ok) return result;
  // refcount_table_offset and refcount_table_clusters stand side by side in one sector.
  std::array<std::byte, 12> where{};
  store_be(std::span(where).first(8), offset);
  store_be(std::span(where).subspan(8, 4), clusters);
  result = file_.write(48, where);
  if (result == BlockResult::ok) result = file_.sync();
  if (result != BlockResult::ok) return result;

  for (std::uint64_t i = 0; i < header_.refcount_table_clusters; ++i)
    freed_.push_back(header_.refcount_table_offset + i * cluster_size());
  for (std::uint64_t i = 0; i < blocks; ++i) tables_.insert(table[first + i]);
  refcount_table_ = std::move(table);
  header_.refcount_table_offset = offset;
  header_.refcount_table_clusters = static_cast<std::uint32_t>(clusters);
  file_end_ = std::max(file_end_, offset + clusters * cluster_size());
  return BlockResult::ok;
}

// ---- writing out

BlockResult Qcow2Tables::failed(BlockResult result) {
  failed_ = true;
  return result;
}

bool Qcow2Tables::has(Step step) const {
  switch (step) {
    case Step::refcounts:
      return refcounts_.dirty() || !changed_refcount_table_.empty();
    case Step::l2:
      return l2_.dirty();
    case Step::l1:
      return !changed_l1_.empty();
  }
  return false;
}

BlockResult Qcow2Tables::write(Step step) {
  if (failed_) return BlockResult::io_error;
  switch (step) {
    case Step::refcounts:
      if (const BlockResult result = write_dirty(refcounts_); result != BlockResult::ok) return result;
      return write_entries(header_.refcount_table_offset, refcount_table_, changed_refcount_table_);
    case Step::l2:
      return write_dirty(l2_);
    case Step::l1:
      return write_entries(header_.l1_offset, l1_, changed_l1_);
  }
  return BlockResult::io_error;
}

BlockResult Qcow2Tables::write_dirty(TableCache& cache) {
  for (TableCache::Table& each : cache.tables()) {
    if (!each.dirty()) continue;
    const auto part = std::span(each.bytes).subspan(each.dirty_begin, each.dirty_end - each.dirty_begin);
    if (const BlockResult result = file_.write(each.host + each.dirty_begin, part); result != BlockResult::ok)
      return result;
    each.clean();
  }
  return BlockResult::ok;
}

BlockResult Qcow2Tables::write_entries(std::uint64_t offset, const std::vector<std::uint64_t>& table,
                                       std::vector<std::uint64_t>& changed) {
  while (!changed.empty()) {
    std::array<std::byte, 8> entry{};
    store_be(entry, table[changed.back()]);
    if (const BlockResult result = file_.write(offset + changed.back() * 8, entry); result != BlockResult::ok)
      return result;
    changed.pop_back();
  }
  return BlockResult::ok;
}

BlockResult Qcow2Tables::write_out() {
  for (const Step step : {Step::refcounts, Step::l2, Step::l1}) {
    if (step != Step::refcounts && !has(step)) continue;
    if (const BlockResult result = write(step); result != BlockResult::ok) return result;
    if (const BlockResult result = file_.sync(); result != BlockResult::ok) return failed(result);
  }
  written_out();
  return BlockResult::ok;
}

void Qcow2Tables::settle() {
  const auto end = freed_.begin() + static_cast<std::ptrdiff_t>(std::exchange(gone_, 0));
  const std::vector<std::uint64_t> gone(freed_.begin(), end);
  freed_.erase(freed_.begin(), end);
  for (const std::uint64_t host : gone) {
    const std::uint64_t cluster = host / cluster_size();
    std::uint64_t left = 0;
    // What cannot be counted down is lost to the image, no more.
    if (refcount(cluster, left) != BlockResult::ok || left == 0) continue;
    if (set_refcount(cluster, --left) == BlockResult::ok && left == 0)
      first_free_ = std::min(first_free_, cluster);
  }
}

}  // namespace hum
