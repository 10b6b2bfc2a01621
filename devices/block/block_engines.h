// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "devices/block/block_backend.h"

namespace hum {

enum class BlockEngineKind : std::uint8_t {
  automatic,  // io_uring, and threads where the host refuses that
  io_uring,
  threads,
};

// Whether the host lets this process have an io_uring.
bool has_io_uring();

// entries: operations that are usually under way. Throws HostError.
std::unique_ptr<BlockEngine> make_block_engine(BlockEngineKind kind, unsigned entries);

}  // namespace hum
