// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "devices/block/image_file.h"
#include "devices/block/qcow2_header.h"
#include "devices/block/qcow2_refcounts.h"
#include "devices/block/table_cache.h"

namespace hum {

// The metadata of a qcow2 image: where each cluster of the guest's disk is, and which clusters of the file
// are in use. For one thread at a time. Changes stay in memory until they are written out in steps with a
// sync of the file between them, so that a crash at any moment leaks clusters at worst: refcounts (and,
// before, the data) before the L2 entries that need them, L2 tables before the L1 entries that lead to them.
// A cluster that was freed is used again only after the entry that led to it is gone from the file. Every
// call that reads a table may find it broken or the host may refuse it: that is io_error and changes nothing.
// Source: QEMU, docs/interop/qcow2.
class Qcow2Tables {
 public:
  enum class Place : std::uint8_t { nowhere, zero, data, compressed };

  // A part of the guest's disk that lies in one piece.
  struct Extent {
    Place place = Place::nowhere;
    std::uint64_t size = 0;             // bytes
    std::uint64_t host = 0;             // where its first byte is in the file; zero: 0 if nowhere
    bool own = false;                   // data: no snapshot shares it, so it may be overwritten
    std::uint64_t compressed_size = 0;  // bytes of the file that belong to the cluster, at most
  };

  using Run = Qcow2Refcounts::Run;

  enum class Step : std::uint8_t { refcounts, l2, l1 };

  // cache_bytes: for L2 tables, and as much for refcounts. header is shared: what moves or grows is changed
  // there. Reads the L1 and the refcount table. Throws ConfigError where they are broken.
  Qcow2Tables(const std::string& key, const std::string& path, ImageFile& file, Qcow2Header& header,
              std::uint64_t cache_bytes, bool read_only);

  // The extent that begins at offset, at most size bytes of it.
  BlockResult find(std::uint64_t offset, std::uint64_t size, Extent& extent);
  // What is to be overwritten is neither a table nor free; otherwise the image is broken.
  BlockResult check_own(const Extent& extent);
  // Takes 1 to `most` free clusters; nothing leads to them yet. run.host is behind or in the file.
  BlockResult allocate(std::uint64_t most, Run& run);
  // Gives back what was not linked.
  void release(const Run& run) { refcounts_.release(run); }
  // From now on the guest's clusters from offset (of whole clusters) on are these; what they were before is
  // freed. After an error what was not linked is given back.
  BlockResult link(std::uint64_t offset, const Run& run);
  // Puts a cluster of the guest's disk, which is nowhere yet, into the file as it was compressed, behind the
  // one before where there is room in its cluster. The content is in the file then. Blocks.
  BlockResult add_compressed(std::uint64_t offset, std::span<const std::byte> content);
  // Frees what the clusters from offset on were; they are zero (version 3) or nowhere now.
  BlockResult unlink(std::uint64_t offset, std::uint64_t clusters, Place as);

  // For a larger disk: the L1 table has so many entries at least, in another place where it had fewer.
  // unsupported: it would be too long. Blocks.
  BlockResult grow_l1(std::uint64_t entries);
  // The header says so; what is in memory is written out before. Blocks.
  BlockResult set_virtual_size(std::uint64_t size);

  bool has(Step step) const;
  // Whether a flush has more to do than to sync the file.
  bool dirty() const {
    return refcounts_.failed() || has(Step::refcounts) || has(Step::l2) || has(Step::l1) ||
           refcounts_.frees();
  }
  // Writes what the step is about; the file is to be synced before the next one. Where a sync fails nobody
  // knows what is in the file: from failed() on nothing is changed any more.
  BlockResult write(Step step);
  BlockResult failed(BlockResult result) { return refcounts_.fail(result); }
  // After the last step and its sync.
  void written_out() { refcounts_.written_out(); }
  // What was freed before may be used again. No write to the file is under way.
  void settle() { refcounts_.settle(); }
  bool settled() const { return refcounts_.settled(); }
  // All steps and syncs at once. Blocks.
  BlockResult write_out();

  std::uint64_t file_end() const { return refcounts_.file_end(); }  // bytes; what is read behind it is zeroes

 private:
  std::uint64_t cluster_size() const { return header_.cluster_size(); }
  std::uint64_t l2_entries() const { return cluster_size() / 8; }
  void read_l1(const std::string& key, const std::string& path);
  bool good_data(std::uint64_t host) const;

  BlockResult l2_table(std::uint64_t offset, bool for_change, TableCache::Table*& table);
  BlockResult new_l2_table(std::uint64_t index, TableCache::Table*& table);
  BlockResult change(std::uint64_t offset, std::uint64_t entry);
  BlockResult free_entry(std::uint64_t entry);
  BlockResult load(std::uint64_t host, TableCache::Table*& table);
  BlockResult make_room();

  ImageFile& file_;
  Qcow2Header& header_;
  std::vector<std::uint64_t> l1_;          // as on disk, host byte order
  std::vector<std::uint64_t> changed_l1_;  // indices
  TableCache l2_;
  Qcow2Refcounts refcounts_;
  // Free bytes behind the last compressed cluster that was added.
  std::uint64_t compressed_begin_ = 0;
  std::uint64_t compressed_end_ = 0;
};

}  // namespace hum
