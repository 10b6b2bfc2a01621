// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "devices/block/image_file.h"
#include "vmm/base/fd.h"

namespace hum {

// What the host does with writes until they are flushed, and with flushes.
enum class BlockCache : std::uint8_t {
  writeback,  // in the host's page cache
  direct,     // past the page cache (O_DIRECT)
  unsafe,     // as writeback, and flushes do nothing
};

// A disk image whose bytes are those of a regular file or of a host's block device, or such a file with an
// image in another format. Holds an advisory lock (fcntl(2), F_OFD_SETLK) as long as it lives: readers share
// a file, a writer has it alone.
class RawFile final : public BlockBackend, public ImageFile {
 public:
  // key is the option's full name, for errors. Throws ConfigError where another choice of the user's helps
  // (no such file, a directory, no permission, locked by another disk, no O_DIRECT), HostError otherwise.
  static std::unique_ptr<RawFile> open(const std::string& key, const std::string& path, bool read_only,
                                       BlockCache cache = BlockCache::writeback);

  int fd() const { return file_.get(); }
  // Gives up the lock, which would otherwise last as long as a mapping of the file.
  void unlock();
  // False where the file system has no locks.
  bool locked() const { return locked_; }

  std::uint64_t size() const override { return size_; }
  std::uint32_t logical_block_size() const override { return logical_block_size_; }
  std::uint32_t physical_block_size() const override { return physical_block_size_; }
  bool has_discard() const override { return has_discard_; }
  void start(BlockEngine& engine, BlockOperation& operation) override;
  BlockResult find_extent(std::uint64_t offset, std::uint64_t size, BlockExtent& extent) override;
  // A block device of the host keeps its size: at most that many bytes of it, as it is now, can be used.
  BlockResult resize(BlockEngine& engine, std::uint64_t size) override;
  bool read_only() const { return read_only_; }

  BlockResult read(std::uint64_t offset, std::span<std::byte> data) override;
  BlockResult write(std::uint64_t offset, std::span<const std::byte> data) override;
  BlockResult sync() override;

 private:
  RawFile() = default;
  void open_direct(const std::string& key, const std::string& path, bool read_only);
  bool fits_direct(const BlockOperation& operation) const;

  Fd file_;
  Fd direct_;  // the same file with O_DIRECT; what is not aligned takes the other
  std::atomic<std::uint64_t> size_ = 0;
  std::uint32_t logical_block_size_ = 512;
  std::uint32_t physical_block_size_ = 4096;
  std::uint32_t offset_alignment_ = 1;  // for direct_: of offset and size, and of buffers
  std::uint32_t memory_alignment_ = 1;
  BlockCache cache_ = BlockCache::writeback;
  bool read_only_ = false;
  bool locked_ = false;
  bool has_discard_ = false;
};

}  // namespace hum
