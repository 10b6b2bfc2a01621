// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

namespace hum {

enum class BlockResult : std::uint8_t { ok, io_error, no_space };

// A disk image as the block device sees it: bytes at offsets. Belongs to one thread at a time; the callers
// stay below size().
class BlockBackend {
 public:
  virtual ~BlockBackend() = default;

  virtual std::uint64_t size() const = 0;  // bytes
  // All of the buffers or an error; after an error any part of them may have been transferred.
  virtual BlockResult read(std::span<const iovec> to, std::uint64_t offset) = 0;
  virtual BlockResult write(std::span<const iovec> from, std::uint64_t offset) = 0;
  // What has been written so far survives a loss of power once this has returned ok.
  virtual BlockResult flush() = 0;
};

}  // namespace hum
