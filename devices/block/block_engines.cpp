// SPDX-License-Identifier: Apache-2.0
#include "devices/block/block_engines.h"

#include <algorithm>
#include <cerrno>

#include "devices/block/thread_engine.h"
#include "devices/block/uring_engine.h"
#include "vmm/base/errors.h"

namespace hum {

bool has_io_uring() {
  return UringEngine::create(1) != nullptr;
}

std::unique_ptr<BlockEngine> make_block_engine(BlockEngineKind kind, unsigned entries) {
  constexpr unsigned most_entries = 1024;
  constexpr unsigned most_threads = 16;
  if (kind != BlockEngineKind::threads) {
    if (auto engine = UringEngine::create(std::clamp(entries, 1u, most_entries))) return engine;
    if (kind == BlockEngineKind::io_uring)
      throw HostError(ENOSYS, "use io_uring (kernel.io_uring_disabled, a seccomp filter, or an old kernel)");
  }
  return std::make_unique<ThreadEngine>(std::clamp(entries, 1u, most_threads));
}

}  // namespace hum
