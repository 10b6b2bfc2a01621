// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <vector>

#include "devices/block/image_file.h"

namespace hum::testing {

// A file in memory. Everything is done at once; what is wanted to fail fails.
class MemoryImageFile final : public ImageFile {
 public:
  MemoryImageFile() = default;
  explicit MemoryImageFile(std::vector<std::byte> content) : bytes(std::move(content)) {}

  std::uint64_t size() const override { return bytes.size(); }

  BlockResult read(std::uint64_t offset, std::span<std::byte> data) override {
    if (fail_reads) return BlockResult::io_error;
    std::fill(data.begin(), data.end(), std::byte{0});
    if (offset < bytes.size()) {
      const std::size_t here = std::min<std::size_t>(data.size(), bytes.size() - offset);
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), here, data.begin());
    }
    return BlockResult::ok;
  }

  BlockResult write(std::uint64_t offset, std::span<const std::byte> data) override {
    if (fail_writes) return BlockResult::no_space;
    if (offset + data.size() > bytes.size()) bytes.resize(offset + data.size());
    std::copy(data.begin(), data.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    return BlockResult::ok;
  }

  BlockResult sync() override {
    if (fail_writes) return BlockResult::io_error;
    synced = bytes;
    return BlockResult::ok;
  }

  void start(BlockEngine& /*engine*/, BlockOperation& operation) override {
    operation.finished(perform(operation));
  }

  std::vector<std::byte> bytes;
  std::vector<std::byte> synced;  // as they were at the last sync
  bool fail_reads = false;
  bool fail_writes = false;

 private:
  BlockResult perform(const BlockOperation& operation) {
    using Kind = BlockOperation::Kind;
    if (operation.kind == Kind::flush) return sync();
    if (operation.kind == Kind::discard || operation.kind == Kind::write_zeroes)
      return write(operation.offset, std::vector<std::byte>(operation.size));
    if (operation.kind == Kind::read && operation.offset + operation.size > bytes.size())
      return BlockResult::io_error;
    std::uint64_t offset = operation.offset;
    for (const iovec& part : operation.buffers) {
      const std::span<std::byte> data(static_cast<std::byte*>(part.iov_base), part.iov_len);
      const BlockResult result = operation.kind == Kind::read ? read(offset, data) : write(offset, data);
      if (result != BlockResult::ok) return result;
      offset += part.iov_len;
    }
    return BlockResult::ok;
  }
};

}  // namespace hum::testing
