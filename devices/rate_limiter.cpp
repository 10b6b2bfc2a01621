// SPDX-License-Identifier: Apache-2.0
#include "devices/rate_limiter.h"

#include <algorithm>

namespace hum {

void RateLimiter::set(const TokenBucketLimit& bytes, const TokenBucketLimit& operations) {
  const std::lock_guard lock(mutex_);
  bytes_ = TokenBucket(bytes);
  operations_ = TokenBucket(operations);
  limited_.store(bytes.size != 0 || operations.size != 0, std::memory_order_relaxed);
}

TokenBucket::Clock::duration RateLimiter::take_limited(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto now = TokenBucket::Clock::now();
  const auto wait = std::max(bytes_.wait(now), operations_.wait(now));
  if (wait != wait.zero()) return wait;
  // What moves no bytes (a flush) waits for those that were moved before, and uses none.
  bytes_.take(bytes);
  operations_.take(1);
  return wait;
}

}  // namespace hum
