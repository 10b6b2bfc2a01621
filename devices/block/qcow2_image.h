// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "devices/block/block_backend.h"
#include "devices/block/image_file.h"
#include "devices/block/qcow2_tables.h"
#include "vmm/base/log.h"

namespace hum {

// A disk in the format qcow2 (versions 2 and 3), read and written; what it has no data for comes from its
// backing image. Data go between the guest's memory and the file in operations of the engine; metadata that
// is not in memory is read at once. For one thread at a time: a disk with it has one I/O thread. The content
// of a write may be lost until it is flushed, as a disk's in its cache; nothing else ever is (see
// Qcow2Tables).
class Qcow2Image final : public BlockBackend {
 public:
  struct Settings {
    std::string name;  // for the log
    bool read_only = false;
    std::uint64_t metadata_cache = 0;  // bytes
  };

  // header is the file's; backing is what it names, or null. key is the option's full name and settings.name
  // the image's path, for errors. Throws ConfigError.
  Qcow2Image(const std::string& key, std::unique_ptr<ImageFile> file, const Qcow2Header& header,
             std::unique_ptr<BlockBackend> backing, Settings settings, const Log& log);
  // Writes out what is in memory.
  ~Qcow2Image() override;
  Qcow2Image(const Qcow2Image&) = delete;
  Qcow2Image& operator=(const Qcow2Image&) = delete;

  std::uint64_t size() const override { return size_; }
  std::uint32_t logical_block_size() const override { return 512; }
  std::uint32_t physical_block_size() const override;
  bool has_discard() const override { return !settings_.read_only; }
  bool one_thread() const override { return true; }
  BlockResult find_extent(std::uint64_t offset, std::uint64_t size, BlockExtent& extent) override;
  // Unsupported: an image that is only read, one of version 2 with snapshots or whose backing image has
  // content behind the old end, a smaller disk where there are snapshots. Where the host refuses a part of
  // it, a smaller disk may have lost what is behind the new end and still be as large as before.
  BlockResult resize(BlockEngine& engine, std::uint64_t size) override;
  void start(BlockEngine& engine, BlockOperation& operation) override;

  const Qcow2Header& header() const { return header_; }
  // What it is built upon, or null.
  BlockBackend* backing() { return backing_.get(); }
  // Those below are for one who has the image alone: no operation on it is under way.
  // A whole cluster, as Qcow2Header::compression says; the disk has nothing there yet. Waits for the host.
  BlockResult add_compressed(std::uint64_t offset, std::span<const std::byte> content);
  // Nothing is left of what the image itself has: all comes from the backing image. On return the file says
  // so. Waits for the host.
  BlockResult clear();

 private:
  using Kind = BlockOperation::Kind;
  class Part;
  class Sync;

  // An operation that was divided into parts.
  struct Whole {
    BlockOperation* operation = nullptr;
    unsigned pending = 0;
    BlockResult result = BlockResult::ok;
  };

  // What waits for an allocation in its range, or for the end of a write-out: a part of a write, or a whole
  // discard.
  struct Waiting {
    Whole* whole;
    BlockOperation* operation;
    std::uint64_t offset;
    std::uint64_t size;
  };

  void start_read(BlockEngine& engine, BlockOperation& operation);
  void read_extent(BlockEngine& engine, Whole& whole, std::uint64_t offset,
                   const Qcow2Tables::Extent& extent);
  bool decompress(const Qcow2Tables::Extent& extent);

  void write_range(BlockEngine& engine, Whole& whole, std::uint64_t offset, std::uint64_t size);
  void overwrite(BlockEngine& engine, Whole& whole, std::uint64_t offset, const Qcow2Tables::Extent& extent);
  std::uint64_t write_new(BlockEngine& engine, Whole& whole, std::uint64_t offset, std::uint64_t size);
  void fill(Part& part, std::uint64_t offset, std::span<std::byte> bytes);
  void write_filled(Part& part);
  void link(Part& part);
  void part_finished(Part& part, BlockResult result);
  void end_part(Part& part, BlockResult result);

  void forget_range(BlockOperation& operation);

  BlockResult zero_tail(BlockEngine& engine);

  void start_flush(BlockEngine& engine, BlockOperation& operation);
  void write_out_next(BlockEngine& engine);
  void end_write_out(BlockEngine& engine, BlockResult result);
  void go_on(BlockEngine& engine);

  std::size_t most_allocating() const;
  bool settle();
  bool must_wait(std::uint64_t begin, std::uint64_t end);
  Whole& begin_whole(BlockOperation& operation);
  void release(Whole& whole, BlockResult result);
  Part& new_part(BlockEngine& engine, Whole* whole);

  std::uint64_t cluster_begin(std::uint64_t offset) const { return offset & ~(header_.cluster_size() - 1); }
  std::uint64_t cluster_end(std::uint64_t offset) const {
    return cluster_begin(offset + header_.cluster_size() - 1);
  }

  Qcow2Header header_;
  std::atomic<std::uint64_t> size_;  // bytes
  std::unique_ptr<ImageFile> file_;
  std::unique_ptr<BlockBackend> backing_;
  Settings settings_;
  const Log& log_;
  Qcow2Tables tables_;

  std::vector<std::byte> compressed_;             // as in the file
  std::vector<std::byte> decompressed_;           // the cluster that was read last
  std::uint64_t decompressed_host_ = UINT64_MAX;  // where it came from

  // Reused, with the memory that they have.
  std::vector<std::unique_ptr<Whole>> wholes_;
  std::vector<Whole*> free_wholes_;
  std::vector<std::unique_ptr<Part>> parts_;
  std::vector<Part*> free_parts_;
  std::vector<std::vector<std::byte>> free_around_;

  std::vector<Part*> allocating_;  // their ranges are being written for the first time
  std::vector<Part*> unlinked_;    // are in the file; their entries wait for the end of a write-out
  std::deque<Waiting> waiting_;
  unsigned writes_under_way_ = 0;

  // A write-out of the tables, and the flushes that it answers; those that come meanwhile wait for the next
  // one.
  std::unique_ptr<Sync> sync_;
  bool writing_out_ = false;
  unsigned step_ = 0;
  std::vector<BlockOperation*> flushes_;
  std::vector<BlockOperation*> next_flushes_;
};

}  // namespace hum
