// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/token_bucket.h"

#include <algorithm>

namespace hum {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t nanoseconds_per_millisecond = 1'000'000;
constexpr std::chrono::hours longest{24};

std::uint64_t use(std::uint64_t& from, std::uint64_t wanted) {
  const std::uint64_t used = std::min(from, wanted);
  from -= used;
  return wanted - used;
}

}  // namespace

TokenBucket::TokenBucket(const TokenBucketLimit& limit, Clock::time_point now)
    : limit_(limit), refilled_(now), tokens_(limit.size), burst_(limit.one_time_burst) {
  limit_.refill_milliseconds = std::max<std::uint64_t>(limit_.refill_milliseconds, 1);
}

// Counts whole tokens, and leaves the time of the rest for the next call.
void TokenBucket::refill(Clock::time_point now) {
  if (now <= refilled_) return;
  const auto passed = static_cast<std::uint64_t>(std::chrono::nanoseconds(now - refilled_).count());
  const Wide period = Wide{limit_.refill_milliseconds} * nanoseconds_per_millisecond;
  const Wide fresh = Wide{passed} * limit_.size / period;
  if (fresh >= Wide{owed_} + (limit_.size - tokens_)) {
    owed_ = 0;
    tokens_ = limit_.size;
    refilled_ = now;
    return;
  }
  tokens_ += use(owed_, static_cast<std::uint64_t>(fresh));
  refilled_ += std::chrono::nanoseconds(static_cast<std::int64_t>(fresh * period / limit_.size));
}

TokenBucket::Clock::duration TokenBucket::wait(Clock::time_point now) {
  if (limit_.size == 0) return {};
  refill(now);
  if (owed_ == 0 && (tokens_ != 0 || burst_ != 0)) return {};
  const Wide period = Wide{limit_.refill_milliseconds} * nanoseconds_per_millisecond;
  const Wide needed = (Wide{owed_} + 1) * period / limit_.size + 1;
  const Wide most = static_cast<std::uint64_t>(std::chrono::nanoseconds(longest).count());
  const auto until = refilled_ + std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(needed, most)));
  return std::max<Clock::duration>(until - now, std::chrono::nanoseconds(1));
}

void TokenBucket::take(std::uint64_t tokens) {
  if (limit_.size == 0) return;
  owed_ = use(tokens_, use(burst_, tokens));
}

}  // namespace hum
