// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "vmm/base/token_bucket.h"

namespace hum {

// A device's limits of bytes and of operations (requests, frames). Any thread; a lock is taken only while
// there is a limit.
class RateLimiter {
 public:
  // Takes the place of the limits before, with full buckets.
  void set(const TokenBucketLimit& bytes, const TokenBucketLimit& operations);

  bool limited() const { return limited_.load(std::memory_order_relaxed); }

  // Takes one operation of so many bytes, and returns 0; or takes nothing, and returns how long to wait
  // before the next try.
  TokenBucket::Clock::duration take(std::uint64_t bytes) {
    return limited() ? take_limited(bytes) : TokenBucket::Clock::duration{};
  }

 private:
  TokenBucket::Clock::duration take_limited(std::uint64_t bytes);

  std::atomic<bool> limited_ = false;
  std::mutex mutex_;  // guards the two below
  TokenBucket bytes_;
  TokenBucket operations_;
};

}  // namespace hum
