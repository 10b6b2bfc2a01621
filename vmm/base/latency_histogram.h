// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "vmm/base/counter.h"

namespace hum {

// How long something took, counted by powers of two of microseconds: bucket i has what took at most 2^i, the
// last one all that took longer. One thread at a time adds, at the cost of two plain additions, and any
// thread may read.
class LatencyHistogram {
 public:
  static constexpr std::size_t bucket_count = 26;  // the last but one: up to 16 seconds

  void add(std::chrono::nanoseconds took) {
    const auto nanoseconds = static_cast<std::uint64_t>(std::max<std::int64_t>(took.count(), 0));
    constexpr std::uint64_t microsecond = 1000;
    const std::uint64_t whole = nanoseconds / microsecond + (nanoseconds % microsecond != 0 ? 1 : 0);
    const auto bucket = static_cast<std::size_t>(whole <= 1 ? 0 : std::bit_width(whole - 1));
    buckets_[std::min(bucket, bucket_count - 1)].add();
    nanoseconds_.add(nanoseconds);
  }

  std::array<std::uint64_t, bucket_count> buckets() const {
    std::array<std::uint64_t, bucket_count> counts{};
    std::transform(buckets_.begin(), buckets_.end(), counts.begin(),
                   [](const Counter& each) { return each.get(); });
    return counts;
  }
  std::uint64_t nanoseconds() const { return nanoseconds_.get(); }

 private:
  std::array<Counter, bucket_count> buckets_;
  Counter nanoseconds_;
};

}  // namespace hum
