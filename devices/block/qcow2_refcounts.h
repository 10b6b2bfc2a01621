// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "devices/block/image_file.h"
#include "devices/block/qcow2_header.h"
#include "devices/block/table_cache.h"

namespace hum {

// Which clusters of a qcow2 image's file are in use: its reference counts, and where its own tables are.
// Qcow2Tables has it and says when what is written out; the same thread. Counts may be written at any moment:
// they go up before anything leads to a cluster, and down only after nothing does any more.
class Qcow2Refcounts {
 public:
  // Adjacent clusters of the file.
  struct Run {
    std::uint64_t host = 0;  // bytes
    std::uint64_t clusters = 0;
  };

  // file and header outlive it; the place of the refcount table is changed in header when it moves. Blocks
  // of up to cache_bytes stay in memory.
  Qcow2Refcounts(ImageFile& file, Qcow2Header& header, std::uint64_t cache_bytes);
  // Reads the refcount table; without it nothing below but what is about tables may be called. Throws
  // ConfigError where it is broken.
  void read_table(const std::string& key, const std::string& path);

  BlockResult count(std::uint64_t cluster, std::uint64_t& count);
  BlockResult set_count(std::uint64_t cluster, std::uint64_t count);

  // Takes 1 to `most` free clusters; nothing leads to them yet. run.host is behind or in the file.
  BlockResult allocate(std::uint64_t most, Run& run);
  // Takes so many that are adjacent.
  BlockResult allocate_adjacent(std::uint64_t clusters, Run& run);
  // Gives back what nothing led to.
  void release(const Run& run);
  // No entry in memory leads there any more (as often as it is called). The counts change when the entry is
  // gone from the file.
  void free_later(std::uint64_t host) { freed_.push_back(host); }
  bool frees() const { return !freed_.empty(); }
  // What was freed until now is gone from the file.
  void written_out() { gone_ = freed_.size(); }
  // It may be used again. No write to the file is under way.
  void settle();
  bool settled() const { return gone_ == 0; }

  bool dirty() const { return blocks_.dirty() || !changed_table_.empty(); }
  BlockResult write();
  // Of the file. Where a sync fails, or a change of the header, nobody knows what is in the file: from then
  // on nothing is changed any more, also by Qcow2Tables.
  BlockResult sync();
  BlockResult fail(BlockResult result);
  bool failed() const { return failed_; }

  // Tables of one cluster: L2 tables and blocks of refcounts. False: there is one.
  bool add_table(std::uint64_t host) { return tables_.insert(host).second; }
  void remove_table(std::uint64_t host) { tables_.erase(host); }
  // Whether the host's cluster holds metadata that the image uses now.
  bool is_table(std::uint64_t host) const;
  // Whether at least a part of the range has ever been written.
  bool in_file(std::uint64_t host, std::uint64_t size) const;
  std::uint64_t file_end() const { return file_end_; }  // bytes; behind it nothing was ever written
  void set_file_end(std::uint64_t end) { file_end_ = end; }

 private:
  // Behind all that is in use, from a block's first cluster on, so that each block counts only what is
  // behind it: blocks, then what they count beside themselves.
  struct Behind {
    std::uint64_t first;   // block: index in the table
    std::uint64_t blocks;  // and clusters that they are in
    std::uint64_t begin;   // cluster
  };

  std::uint64_t cluster_size() const { return header_.cluster_size(); }
  std::uint64_t per_block() const { return cluster_size() * 8 / header_.refcount_bits; }
  Behind behind(std::uint64_t clusters) const;
  BlockResult write_blocks(const Behind& place, std::uint64_t clusters, std::vector<std::uint64_t>& table);
  BlockResult load(std::uint64_t host, TableCache::Table*& block);
  BlockResult make_room();
  BlockResult new_block(std::uint64_t index);
  BlockResult grow_table(std::uint64_t index);

  ImageFile& file_;
  Qcow2Header& header_;
  std::uint64_t file_end_;
  std::vector<std::uint64_t> table_;          // host byte order
  std::vector<std::uint64_t> changed_table_;  // indices
  std::unordered_set<std::uint64_t> tables_;  // bytes
  TableCache blocks_;
  std::uint64_t first_free_ = 0;      // cluster: below it all are in use
  std::vector<std::uint64_t> freed_;  // clusters (bytes) that no entry leads to any more
  std::size_t gone_ = 0;              // so many of them the file has no entry for, either
  bool failed_ = false;
};

// Writes the tables of a cache that differ from the file.
BlockResult write_dirty_tables(ImageFile& file, TableCache& cache);

}  // namespace hum
