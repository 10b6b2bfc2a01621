// SPDX-License-Identifier: Apache-2.0
#include "devices/block/qcow2_check.h"

#include <algorithm>
#include <array>

#include "devices/block/qcow2_format.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::uint64_t most_told = 20;  // of each kind
constexpr std::uint64_t bitmaps = 1;     // the autoclear feature
constexpr std::uint64_t most_snapshots = 65536;
constexpr std::uint64_t most_l1_entries = qcow2_most_l1_size / 8;

std::string at(std::uint64_t offset) {
  return " at byte " + std::to_string(offset);
}

}  // namespace

std::uint64_t Qcow2Findings::count(Kind kind) const {
  const auto found = counts.find(kind);
  return found == counts.end() ? 0 : found->second;
}

std::uint64_t Qcow2Findings::errors() const {
  std::uint64_t all = 0;
  for (const auto& [kind, count] : counts) all += kind == Kind::leaked ? 0 : count;
  return all;
}

const char* to_string(Qcow2Findings::Kind kind) {
  using Kind = Qcow2Findings::Kind;
  switch (kind) {
    case Kind::leaked:
      return "leaked";
    case Kind::undercount:
      return "undercount";
    case Kind::own_flag:
      return "own-flag";
    case Kind::past_end:
      return "past-end";
    case Kind::overlap:
      return "overlap";
    case Kind::bad_entry:
      return "bad-entry";
    case Kind::unreadable:
      return "unreadable";
  }
  return "";
}

std::uint32_t ClusterCounts::at(std::uint64_t cluster) const {
  const auto page = pages_.find(cluster / page_size);
  return page == pages_.end() ? 0 : page->second[cluster % page_size];
}

std::uint32_t& ClusterCounts::operator[](std::uint64_t cluster) {
  std::vector<std::uint32_t>& page = pages_[cluster / page_size];
  if (page.empty()) page.resize(page_size);
  return page[cluster % page_size];
}

std::uint64_t ClusterCounts::end() const {
  std::uint64_t behind = 0;
  each([&](std::uint64_t cluster, std::uint32_t /*number*/) { behind = cluster + 1; });
  return behind;
}

Qcow2Check::Qcow2Check(const std::string& key, const std::string& path, ImageFile& file,
                       const Qcow2Header& header)
    : file_(file), header_(header) {
  if ((header.autoclear_features & bitmaps) != 0)
    throw ConfigError(key, path, "has persistent bitmaps, which are not looked at",
                      "remove them (qemu-img bitmap --remove), or use 'qemu-img check'");
}

const Qcow2Findings& Qcow2Check::run() {
  findings_ = {};
  uses_ = as_ = counts_ = {};
  blocks_.clear();
  count_clusters_.clear();
  flags_.clear();
  // Qcow2Header was checked against the file: its own tables are inside.
  use(0, 1, Use::header, "the header");
  walk_refcounts();
  walk_l1({header_.l1_offset, header_.l1_entries, "", true});
  for (const L1& each : snapshots()) walk_l1(each);
  compare_counts();
  return findings_;
}

void Qcow2Check::found(Kind kind, const std::string& text) {
  if (++findings_.counts[kind] <= most_told) findings_.first.push_back({kind, text});
}

// Notes that the clusters of the range are used. False: it does not lie in the file.
bool Qcow2Check::use(std::uint64_t host, std::uint64_t size, Use as, const std::string& what) {
  const std::uint64_t end = quotient_up(file_.size(), cluster_size()) * cluster_size();
  if (host >= end || size > end - host) {
    found(Kind::past_end, what + " lies behind the end of the file," + at(host));
    return false;
  }
  const bool may_be_shared = as == Use::data || as == Use::l2;
  for (std::uint64_t cluster = host / cluster_size(); cluster * cluster_size() < host + size; ++cluster) {
    std::uint32_t& before = as_[cluster];
    if (before != 0 && (before != static_cast<std::uint32_t>(as) || !may_be_shared))
      found(Kind::overlap, what + " lies where something else does," + at(cluster * cluster_size()));
    else
      before = static_cast<std::uint32_t>(as);
    if (++uses_[cluster] == 1) ++findings_.used_clusters;
  }
  return true;
}

bool Qcow2Check::read_table(std::uint64_t offset, std::uint64_t entries, std::vector<std::uint64_t>& table,
                            const std::string& what) {
  if (read_qcow2_table(file_, offset, entries, table) == BlockResult::ok) return true;
  found(Kind::unreadable, what + " cannot be read," + at(offset));
  return false;
}

void Qcow2Check::walk_refcounts() {
  const auto note = [this](std::uint64_t host, std::uint64_t clusters) {
    for (std::uint64_t i = 0; i < clusters; ++i) count_clusters_.push_back(host / cluster_size() + i);
  };
  const std::uint64_t size = header_.refcount_table_clusters * cluster_size();
  if (!use(header_.refcount_table_offset, size, Use::refcount_table, "the refcount table")) return;
  note(header_.refcount_table_offset, header_.refcount_table_clusters);
  std::vector<std::uint64_t> table;
  if (!read_table(header_.refcount_table_offset, size / 8, table, "the refcount table")) return;
  const std::uint64_t per_block = cluster_size() * 8 / header_.refcount_bits;
  const std::uint64_t file_clusters = quotient_up(file_.size(), cluster_size());
  std::vector<std::byte> block(cluster_size());
  for (std::uint64_t i = 0; i < table.size(); ++i) {
    if (table[i] == 0) continue;
    const std::string what = "refcount block " + std::to_string(i);
    if (table[i] % cluster_size() != 0) {
      found(Kind::bad_entry, what + " does not begin with a cluster," + at(table[i]));
      continue;
    }
    const bool again = as_.at(table[i] / cluster_size()) != 0;
    if (!use(table[i], cluster_size(), Use::refcount_block, what)) continue;
    note(table[i], 1);
    if (again) continue;  // so that what is read and kept is never more than the file has
    if (file_.read(table[i], block) != BlockResult::ok) {
      found(Kind::unreadable, what + " cannot be read," + at(table[i]));
      continue;
    }
    blocks_[i] = table[i];
    for (std::uint64_t k = 0; k < per_block; ++k) {
      const std::uint64_t count = qcow2_count_at(block, k, header_.refcount_bits);
      const std::uint64_t cluster = i * per_block + k;
      if (count == 0) continue;
      if (cluster < file_clusters)
        counts_[cluster] = static_cast<std::uint32_t>(std::min<std::uint64_t>(count, UINT32_MAX));
      else
        found(Kind::leaked, "cluster " + std::to_string(cluster) + " has the refcount " +
                                std::to_string(count) + " and lies behind the end of the file");
    }
  }
}

std::vector<Qcow2Check::L1> Qcow2Check::snapshots() {
  std::vector<L1> tables;
  if (header_.snapshots == 0) return tables;
  std::array<std::byte, 8> place{};
  if (file_.read(64, place) != BlockResult::ok || header_.snapshots > most_snapshots) {
    found(Kind::unreadable, "the table of snapshots cannot be read");
    return tables;
  }
  const std::uint64_t begin = load_be(place);
  std::uint64_t offset = begin;
  for (std::uint32_t i = 0; i < header_.snapshots; ++i) {
    std::array<std::byte, 40> entry{};
    if (offset >= file_.size() || file_.read(offset, entry) != BlockResult::ok) {
      found(Kind::past_end, "snapshot " + std::to_string(i) + " lies behind the end of the file");
      return tables;
    }
    const auto number = [&](std::size_t from, std::size_t size) {
      return load_be(std::span(entry).subspan(from, size));
    };
    const L1 l1{number(0, 8), number(8, 4), "snapshot " + std::to_string(i) + ": ", false};
    if (l1.offset % cluster_size() != 0 || l1.entries > most_l1_entries)
      found(Kind::bad_entry, l1.name + "its L1 table does not begin with a cluster or is too long");
    else
      tables.push_back(l1);
    offset += quotient_up(40 + number(36, 4) + number(12, 2) + number(14, 2), 8) * 8;
  }
  use(begin, offset - begin, Use::snapshots, "the table of snapshots");
  return tables;
}

void Qcow2Check::walk_l1(const L1& l1) {
  if (l1.entries == 0) return;
  const std::string name = l1.name + "the L1 table";
  if (!use(l1.offset, l1.entries * 8, Use::l1, name)) return;
  std::vector<std::uint64_t> table;
  if (!read_table(l1.offset, l1.entries, table, name)) return;
  std::vector<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < table.size(); ++i) {
    if (table[i] == 0) continue;
    const std::uint64_t host = table[i] & qcow2_offset_bits;
    const std::string what = l1.name + "L2 table " + std::to_string(i);
    if ((table[i] & ~(qcow2_offset_bits | qcow2_own_bit)) != 0 || host == 0 || host % cluster_size() != 0) {
      found(Kind::bad_entry, what + ": its entry has unknown bits or does not lead to a cluster");
      continue;
    }
    if (!use(host, cluster_size(), Use::l2, what)) continue;
    seen.push_back(host);
    if (l1.active) check_flag(l1.offset + i * 8, table[i], counts_.at(host / cluster_size()) == 1, what);
    walk_l2(host, l1, i);
  }
  std::sort(seen.begin(), seen.end());
  for (auto each = std::adjacent_find(seen.begin(), seen.end()); each != seen.end();
       each = std::adjacent_find(each + 1, seen.end()))
    found(Kind::overlap, name + " leads to one L2 table twice," + at(*each));
}

void Qcow2Check::walk_l2(std::uint64_t host, const L1& l1, std::uint64_t index) {
  std::vector<std::uint64_t> table;
  if (!read_table(host, cluster_size() / 8, table, l1.name + "L2 table " + std::to_string(index))) return;
  for (std::uint64_t i = 0; i < table.size(); ++i) {
    const std::uint64_t entry = table[i];
    if (entry == 0) continue;
    const std::string what = l1.name + "the cluster for byte " +
                             std::to_string((index * table.size() + i) * cluster_size()) + " of the disk";
    if ((entry & qcow2_compressed_bit) != 0) {
      const CompressedPlace place(entry, header_.cluster_bits);
      // The last sector need not be whole.
      const std::uint64_t end =
          std::min(place.end, quotient_up(file_.size(), cluster_size()) * cluster_size());
      if (!use(place.begin, std::max(end, place.begin + 1) - place.begin, Use::data, what)) continue;
      if (l1.active) {
        check_flag(host + i * 8, entry, false, what);
        ++findings_.compressed_clusters;
        ++findings_.data_clusters;
      }
      continue;
    }
    const std::uint64_t data = entry & qcow2_offset_bits;
    const bool zero = (entry & qcow2_zero_bit) != 0;
    if ((entry & ~(qcow2_offset_bits | qcow2_own_bit | qcow2_zero_bit)) != 0 ||
        (zero && header_.version < 3) || data % cluster_size() != 0 || (data == 0 && !zero)) {
      found(Kind::bad_entry, what + ": its entry has unknown bits or does not lead to a cluster");
      continue;
    }
    if (data == 0 || !use(data, cluster_size(), Use::data, what) || !l1.active) continue;
    check_flag(host + i * 8, entry, counts_.at(data / cluster_size()) == 1, what);
    if (!zero) ++findings_.data_clusters;
  }
}

void Qcow2Check::check_flag(std::uint64_t place, std::uint64_t entry, bool own, const std::string& what) {
  if (((entry & qcow2_own_bit) != 0) == own) return;
  found(Kind::own_flag, what + (own ? " is not marked as the image's own" : " is marked as the image's own") +
                            " and its refcount says otherwise");
  flags_.push_back({place, entry ^ qcow2_own_bit});
}

void Qcow2Check::compare_counts() {
  const auto tell = [this](Kind kind, std::uint64_t cluster) {
    found(kind, "cluster " + std::to_string(cluster) + " has the refcount " +
                    std::to_string(counts_.at(cluster)) + " and " + std::to_string(uses_.at(cluster)) +
                    " uses");
  };
  uses_.each([&](std::uint64_t cluster, std::uint32_t uses) {
    if (counts_.at(cluster) < uses) tell(Kind::undercount, cluster);
  });
  counts_.each([&](std::uint64_t cluster, std::uint32_t count) {
    if (count > uses_.at(cluster)) tell(Kind::leaked, cluster);
  });
}

}  // namespace hum
