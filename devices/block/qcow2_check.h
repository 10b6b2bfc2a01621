// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "devices/block/image_file.h"
#include "devices/block/qcow2_header.h"

namespace hum {

// What a check of a qcow2 image found.
struct Qcow2Findings {
  enum class Kind : std::uint8_t {
    leaked,      // a cluster is counted more often than it is used: its space is lost, no more
    undercount,  // a cluster is counted less often than it is used: it will be overwritten
    own_flag,    // an entry says that a cluster is the image's own and it is not, or the reverse
    past_end,    // an entry leads behind the end of the file
    overlap,     // a cluster is used as two different things
    bad_entry,   // an entry has bits that mean nothing, or leads not to the begin of a cluster
    unreadable,  // the host refused to read a table
  };
  struct Problem {
    Kind kind;
    std::string text;
  };

  std::map<Kind, std::uint64_t> counts;
  std::vector<Problem> first;       // of each kind the first few
  std::uint64_t used_clusters = 0;  // of the file
  std::uint64_t data_clusters = 0;  // of the guest's disk that have data in this file
  std::uint64_t compressed_clusters = 0;

  std::uint64_t count(Kind kind) const;
  std::uint64_t leaks() const { return count(Kind::leaked); }
  // All but leaks: content is lost, or will be.
  std::uint64_t errors() const;
};

const char* to_string(Qcow2Findings::Kind kind);

// Numbers of clusters that are zero but for some, which may be far apart.
class ClusterCounts {
 public:
  std::uint32_t at(std::uint64_t cluster) const;
  std::uint32_t& operator[](std::uint64_t cluster);
  // Behind the last cluster with a number.
  std::uint64_t end() const;
  // Calls visit(cluster, number) for all that are not zero, in order.
  template <typename Visit>
  void each(Visit visit) const {
    for (const auto& [page, numbers] : pages_)
      for (std::uint64_t i = 0; i < numbers.size(); ++i)
        if (numbers[i] != 0) visit(page * page_size + i, numbers[i]);
  }

 private:
  static constexpr std::uint64_t page_size = 4096;
  std::map<std::uint64_t, std::vector<std::uint32_t>> pages_;
};

// Looks at all tables of an image that nobody changes meanwhile: those of the guest's disk, of its snapshots,
// and the reference counts. Changes nothing but by the calls that repair. Source: QEMU, docs/interop/qcow2.
class Qcow2Check {
 public:
  // Throws ConfigError where the image's persistent bitmaps would have to be looked at.
  Qcow2Check(const std::string& key, const std::string& path, ImageFile& file, const Qcow2Header& header);

  const Qcow2Findings& run();

  // After run: mends what can be, and runs again. Leaks: their counts go down, only where no entry is broken
  // (what looks leaked may be what that led to); otherwise they stay. all: where there are errors, all counts
  // are made anew behind the end of the file, and the flags are made to fit. A loss of power leaves the old
  // counts or the new ones. Entries that lead nowhere stay as they are: what they led to is lost. An image
  // without errors is not marked as dirty or corrupt any more. unsupported, with nothing changed: a cluster
  // is used more often than can be counted, or the refcount table would be too long.
  BlockResult repair(bool all);
  const Qcow2Findings& findings() const { return findings_; }

 private:
  using Kind = Qcow2Findings::Kind;
  // What a cluster of the file is used as.
  enum class Use : std::uint32_t { none, header, l1, l2, data, refcount_table, refcount_block, snapshots };
  struct L1 {
    std::uint64_t offset;
    std::uint64_t entries;
    std::string name;
    bool active;
  };
  struct Entry {
    std::uint64_t place;  // bytes, in the file
    std::uint64_t value;
  };

  std::uint64_t cluster_size() const { return header_.cluster_size(); }
  void found(Kind kind, const std::string& text);
  bool use(std::uint64_t host, std::uint64_t size, Use as, const std::string& what);
  bool read_table(std::uint64_t offset, std::uint64_t entries, std::vector<std::uint64_t>& table,
                  const std::string& what);
  std::vector<L1> snapshots();
  void walk_refcounts();
  void walk_l1(const L1& l1);
  void walk_l2(std::uint64_t host, const L1& l1, std::uint64_t index);
  void compare_counts();
  void check_flag(std::uint64_t place, std::uint64_t entry, bool own, const std::string& what);

  bool entries_are_sound() const;
  BlockResult repair_leaks();
  BlockResult rebuild_counts();
  BlockResult repair_flags();
  BlockResult mark_clean();

  ImageFile& file_;
  Qcow2Header header_;
  Qcow2Findings findings_;
  ClusterCounts uses_;
  ClusterCounts as_;                               // Use of each cluster
  ClusterCounts counts_;                           // as the image has them
  std::map<std::uint64_t, std::uint64_t> blocks_;  // of refcounts: index in the table, where
  std::vector<std::uint64_t> count_clusters_;      // that the counts themselves are in
  std::vector<Entry> flags_;                       // that are wrong, as they should be
};

}  // namespace hum
