// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

#include "tools/humd/cancelled.h"

namespace hum {

// How long work on files is watched and stopped. The caller's; called by the thread that does the work.
struct FileTask {
  // Now and then: bytes. whole is 0 where it is not known.
  std::function<void(std::uint64_t done, std::uint64_t whole)> progress = {};
  // Looked at now and then; outlives the work.
  const std::atomic<bool>* cancelled = nullptr;
  // Before each change of what is on the disk; for tests, which end the process there, or throw.
  std::function<void(std::string_view change)> before = {};

  // Throws Cancelled.
  void tell(std::uint64_t done, std::uint64_t whole) const {
    if (progress) progress(done, whole);
    check();
  }
  void check() const {
    if (cancelled != nullptr && cancelled->load()) throw Cancelled();
  }
  void changes(std::string_view what) const {
    if (before) before(what);
  }
};

}  // namespace hum
