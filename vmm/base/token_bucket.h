// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

namespace hum {

// How much of something may be used: at first one_time_burst and size tokens, and size more in every
// refill_milliseconds, saved up to size.
struct TokenBucketLimit {
  std::uint64_t size = 0;  // tokens; 0: no limit
  std::uint64_t refill_milliseconds = 1000;
  std::uint64_t one_time_burst = 0;  // tokens

  bool operator==(const TokenBucketLimit&) const = default;
};

// A limit as it is used up. What is larger than the bucket is let through when nothing is owed, and then
// owed. Belongs to one thread at a time.
class TokenBucket {
 public:
  using Clock = std::chrono::steady_clock;

  explicit TokenBucket(const TokenBucketLimit& limit = {}, Clock::time_point now = Clock::now());

  // How long until something may be used; 0: now.
  Clock::duration wait(Clock::time_point now);
  // Uses so many tokens, after wait has returned 0.
  void take(std::uint64_t tokens);

 private:
  void refill(Clock::time_point now);

  TokenBucketLimit limit_;
  Clock::time_point refilled_;
  std::uint64_t tokens_;
  std::uint64_t burst_;
  std::uint64_t owed_ = 0;
};

}  // namespace hum
