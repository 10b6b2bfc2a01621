// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "devices/block/block_backend.h"

namespace hum {

// A file of the host that holds an image in some format: its metadata is read and written at once, its data
// by operations. Grows by writes behind its end.
class ImageFile {
 public:
  virtual ~ImageFile() = default;

  virtual std::uint64_t size() const = 0;  // bytes, when it was opened or as write made it
  // The calling thread waits. What lies behind the end reads as zeroes.
  virtual BlockResult read(std::uint64_t offset, std::span<std::byte> data) = 0;
  virtual BlockResult write(std::uint64_t offset, std::span<const std::byte> data) = 0;
  // What was written survives a loss of power (but with cache=unsafe).
  virtual BlockResult sync() = 0;
  // The same contract as BlockBackend::start; reading behind the end is an error.
  virtual void start(BlockEngine& engine, BlockOperation& operation) = 0;
};

}  // namespace hum
