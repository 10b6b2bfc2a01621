// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "devices/block/block_backend.h"

// One operation after the other, for those who may wait: the calling thread does until all that is under way
// in the engine has ended.
namespace hum {

BlockResult read_now(BlockBackend& image, BlockEngine& engine, std::uint64_t offset,
                     std::span<std::byte> data);
BlockResult write_now(BlockBackend& image, BlockEngine& engine, std::uint64_t offset,
                      std::span<std::byte> data);
BlockResult flush_now(BlockBackend& image, BlockEngine& engine);
// A discard, or zeroes that need not stay allocated.
BlockResult forget_now(BlockBackend& image, BlockEngine& engine, BlockOperation::Kind kind,
                       std::uint64_t offset, std::uint64_t size);

}  // namespace hum
