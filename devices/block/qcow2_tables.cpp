// SPDX-License-Identifier: Apache-2.0
#include "devices/block/qcow2_tables.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "devices/block/qcow2_format.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint64_t offset_bits = qcow2_offset_bits;
constexpr std::uint64_t own_bit = qcow2_own_bit;
constexpr std::uint64_t compressed_bit = qcow2_compressed_bit;
constexpr std::uint64_t zero_bit = qcow2_zero_bit;

std::uint64_t entry_of(const TableCache::Table& table, std::uint64_t index) {
  return load_be(std::span(table.bytes).subspan(index * 8, 8));
}

void set_entry(TableCache::Table& table, std::uint64_t index, std::uint64_t entry) {
  store_be(std::span(table.bytes).subspan(index * 8, 8), entry);
  table.touch(index * 8, 8);
}

}  // namespace

Qcow2Tables::Qcow2Tables(const std::string& key, const std::string& path, ImageFile& file,
                         Qcow2Header& header, std::uint64_t cache_bytes, bool read_only)
    : file_(file),
      header_(header),
      l2_(cache_bytes, header.cluster_size()),
      refcounts_(file, header, read_only ? 0 : cache_bytes) {
  read_l1(key, path);
  if (read_only) return;
  refcounts_.read_table(key, path);
  // Each cluster that has data is then whole.
  const std::uint64_t end = quotient_up(file_end(), cluster_size()) * cluster_size();
  if (file_end() == end) return;
  const std::array<std::byte, 1> last{};
  if (file.write(end - 1, last) != BlockResult::ok)
    throw ConfigError(key, path, "cannot be made longer",
                      "make room on its file system, or use it read-only");
  refcounts_.set_file_end(end);
}

void Qcow2Tables::read_l1(const std::string& key, const std::string& path) {
  if (read_qcow2_table(file_, header_.l1_offset, header_.l1_entries, l1_) != BlockResult::ok)
    throw ConfigError(key, path, "its L1 table cannot be read", "see the host's log");
  for (const std::uint64_t entry : l1_) {
    const std::uint64_t host = entry & offset_bits;
    if (host == 0 && entry == 0) continue;
    if ((entry & ~(offset_bits | own_bit)) != 0 || host == 0 || host % cluster_size() != 0 ||
        !refcounts_.in_file(host, 1))
      throw ConfigError(key, path, "its L1 table has an entry that leads nowhere",
                        "repair it with 'hum disk check --repair all'");
    if (!refcounts_.add_table(host))
      throw ConfigError(key, path, "its L1 table leads to one L2 table twice",
                        "repair it with 'hum disk check --repair all'");
  }
}

bool Qcow2Tables::good_data(std::uint64_t host) const {
  return host != 0 && host % cluster_size() == 0 && refcounts_.in_file(host, cluster_size());
}

BlockResult Qcow2Tables::load(std::uint64_t host, TableCache::Table*& table) {
  table = l2_.find(host);
  if (table != nullptr) return BlockResult::ok;
  if (const BlockResult result = make_room(); result != BlockResult::ok) return result;
  table = &l2_.add(host);
  const BlockResult result = file_.read(host, table->bytes);
  if (result != BlockResult::ok) l2_.remove(host);
  return result;
}

BlockResult Qcow2Tables::make_room() {
  if (!l2_.full() || l2_.evict()) return BlockResult::ok;
  if (const BlockResult result = write_out(); result != BlockResult::ok) return result;
  l2_.evict();
  return BlockResult::ok;
}

// Null: there is none. for_change: it is made, or made this image's own.
BlockResult Qcow2Tables::l2_table(std::uint64_t offset, bool for_change, TableCache::Table*& table) {
  const std::uint64_t index = offset / cluster_size() / l2_entries();
  const std::uint64_t entry = l1_[index];
  table = nullptr;
  if (for_change && (entry & own_bit) == 0) return new_l2_table(index, table);
  return entry == 0 ? BlockResult::ok : load(entry & offset_bits, table);
}

BlockResult Qcow2Tables::new_l2_table(std::uint64_t index, TableCache::Table*& table) {
  const std::uint64_t old = l1_[index] & offset_bits;
  std::vector<std::byte> content(cluster_size());
  if (old != 0) {
    TableCache::Table* shared = nullptr;
    if (const BlockResult result = load(old, shared); result != BlockResult::ok) return result;
    content = shared->bytes;
  }
  if (const BlockResult result = make_room(); result != BlockResult::ok) return result;
  Run run;
  if (const BlockResult result = refcounts_.allocate(1, run); result != BlockResult::ok) return result;
  table = &l2_.add(run.host);
  table->bytes = std::move(content);
  table->touch(0, cluster_size());
  l1_[index] = run.host | own_bit;
  changed_l1_.push_back(index);
  refcounts_.add_table(run.host);
  if (old != 0) {
    // A snapshot has it still.
    refcounts_.remove_table(old);
    refcounts_.free_later(old);
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
      return refcounts_.in_file(one.host, one.compressed_size);
    }
    if ((entry & ~(offset_bits | own_bit | zero_bit)) != 0 ||
        ((entry & zero_bit) != 0 && header_.version < 3))
      return false;
    if ((entry & zero_bit) != 0) {
      one.place = Place::zero;
      one.host = host;
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
  const bool has_host = first.place != Place::compressed && first.host != 0;
  extent.host = has_host ? first.host + in_cluster : first.host;
  std::uint64_t found = cluster_size() - in_cluster;
  if (first.place == Place::compressed) {
    extent.size = std::min(extent.size, found);
    return BlockResult::ok;
  }
  while (found < extent.size) {
    Extent next;
    if (!read(++index, next) || next.place != first.place || next.own != first.own) break;
    if (next.host != (has_host ? extent.host + found : 0)) break;
    found += cluster_size();
  }
  extent.size = std::min(extent.size, found);
  return BlockResult::ok;
}

BlockResult Qcow2Tables::check_own(const Extent& extent) {
  const std::uint64_t begin = extent.host / cluster_size() * cluster_size();
  for (std::uint64_t host = begin; host < extent.host + extent.size; host += cluster_size()) {
    std::uint64_t count = 0;
    if (const BlockResult result = refcounts_.count(host / cluster_size(), count); result != BlockResult::ok)
      return result;
    if (count != 1 || refcounts_.is_table(host)) return BlockResult::io_error;
  }
  return BlockResult::ok;
}

BlockResult Qcow2Tables::allocate(std::uint64_t most, Run& run) {
  return refcounts_.allocate(most, run);
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

BlockResult Qcow2Tables::add_compressed(std::uint64_t offset, std::span<const std::byte> content) {
  if (refcounts_.failed()) return BlockResult::io_error;
  std::uint64_t begin = compressed_begin_;
  if (content.size() > compressed_end_ - begin) {
    // It may begin in the last cluster only if the next one is adjacent.
    Run run;
    if (const BlockResult result = refcounts_.allocate(1, run); result != BlockResult::ok) return result;
    if (run.host != compressed_end_) begin = run.host;
    compressed_end_ = run.host + cluster_size();
  }
  const std::uint64_t end = begin + content.size();
  compressed_begin_ = end;
  BlockResult result = file_.write(begin, content);
  // A new cluster is counted already.
  for (std::uint64_t host = begin / cluster_size() * cluster_size(); result == BlockResult::ok && host < end;
       host += cluster_size()) {
    std::uint64_t count = 0;
    result = refcounts_.count(host / cluster_size(), count);
    const bool first = host >= begin;
    if (result == BlockResult::ok && !first) result = refcounts_.set_count(host / cluster_size(), count + 1);
  }
  if (result == BlockResult::ok)
    result = change(offset, CompressedPlace::entry_for(begin, content.size(), header_.cluster_bits));
  return result;
}

BlockResult Qcow2Tables::unlink(std::uint64_t offset, std::uint64_t clusters, Place as) {
  const std::uint64_t entry = as == Place::zero ? zero_bit : 0;
  const std::uint64_t end = offset + clusters * cluster_size();
  const std::uint64_t span = cluster_size() * l2_entries();
  for (std::uint64_t at = offset; at < end; at += cluster_size()) {
    if (entry == 0 && l1_[at / span] == 0) {
      at = at / span * span + span - cluster_size();
      continue;
    }
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
    if (!refcounts_.in_file(begin, end - begin)) return BlockResult::io_error;
    for (std::uint64_t host = begin / cluster_size() * cluster_size(); host < end; host += cluster_size())
      refcounts_.free_later(host);
    return BlockResult::ok;
  }
  const std::uint64_t host = entry & offset_bits;
  if (host == 0) return BlockResult::ok;
  if (!good_data(host) || refcounts_.is_table(host)) return BlockResult::io_error;
  refcounts_.free_later(host);
  return BlockResult::ok;
}

// A longer table in another place; then the header leads to it.
BlockResult Qcow2Tables::grow_l1(std::uint64_t entries) {
  if (entries <= l1_.size()) return BlockResult::ok;
  if (refcounts_.failed()) return BlockResult::io_error;
  if (entries * 8 > qcow2_most_l1_size) return BlockResult::unsupported;
  Run run;
  if (const BlockResult result = refcounts_.allocate_adjacent(quotient_up(entries * 8, cluster_size()), run);
      result != BlockResult::ok)
    return result;
  // All that the old table has is in the file before the new one takes over.
  BlockResult result = write_out();
  std::vector<std::byte> bytes = encode_qcow2_table(l1_);
  bytes.resize(run.clusters * cluster_size());
  if (result == BlockResult::ok) result = file_.write(run.host, bytes);
  if (result == BlockResult::ok) result = refcounts_.sync();
  if (result != BlockResult::ok) {
    refcounts_.release(run);
    return result;
  }
  // The number of entries and the place stand side by side in one sector.
  std::array<std::byte, 12> where{};
  store_be(std::span(where).first(4), entries);
  store_be(std::span(where).subspan(4, 8), run.host);
  result = file_.write(36, where);
  if (result == BlockResult::ok) result = refcounts_.sync();
  if (result != BlockResult::ok) return failed(result);
  for (std::uint64_t at = 0; at < l1_.size() * 8; at += cluster_size())
    refcounts_.free_later(header_.l1_offset + at);
  l1_.resize(entries);
  header_.l1_offset = run.host;
  header_.l1_entries = static_cast<std::uint32_t>(entries);
  return BlockResult::ok;
}

BlockResult Qcow2Tables::set_virtual_size(std::uint64_t size) {
  const std::uint64_t entries = quotient_up(size, cluster_size() * l2_entries());
  if (entries > l1_.size()) return BlockResult::unsupported;
  // Entries behind the smaller of both ends are gone or zero in the file before it moves.
  if (const BlockResult result = write_out(); result != BlockResult::ok) return result;
  std::array<std::byte, 8> bytes{};
  store_be(bytes, size);
  BlockResult result = file_.write(24, bytes);
  if (result == BlockResult::ok) result = refcounts_.sync();
  if (result != BlockResult::ok) return failed(result);
  header_.virtual_size = size;
  return BlockResult::ok;
}

// ---- writing out

bool Qcow2Tables::has(Step step) const {
  switch (step) {
    case Step::refcounts:
      return refcounts_.dirty();
    case Step::l2:
      return l2_.dirty();
    case Step::l1:
      return !changed_l1_.empty();
  }
  return false;
}

BlockResult Qcow2Tables::write(Step step) {
  if (refcounts_.failed()) return BlockResult::io_error;
  switch (step) {
    case Step::refcounts:
      return refcounts_.write();
    case Step::l2:
      return write_dirty_tables(file_, l2_);
    case Step::l1:
      return write_qcow2_entries(file_, header_.l1_offset, l1_, changed_l1_);
  }
  return BlockResult::io_error;
}

BlockResult Qcow2Tables::write_out() {
  for (const Step step : {Step::refcounts, Step::l2, Step::l1}) {
    if (step != Step::refcounts && !has(step)) continue;
    if (const BlockResult result = write(step); result != BlockResult::ok) return result;
    if (const BlockResult result = refcounts_.sync(); result != BlockResult::ok) return result;
  }
  written_out();
  return BlockResult::ok;
}

}  // namespace hum
