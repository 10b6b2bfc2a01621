// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "devices/net/frame_filter.h"
#include "devices/rate_limiter.h"
#include "vmm/base/token_bucket.h"

namespace hum {

// Limits of an interface, each direction by itself: bytes of frames, with their Ethernet headers, and frames.
// What is above them waits. A frame that still is to be segmented (GSO) counts as one.
class RateFilter final : public FrameFilter {
 public:
  struct Limits {
    TokenBucketLimit bytes;
    TokenBucketLimit frames;

    bool operator==(const Limits&) const = default;
  };

  RateFilter(const Limits& from_guest, const Limits& to_guest);

  // Any thread, at any time: takes the place of the limits before, with full buckets. Whoever holds a frame
  // may ask for it again at once.
  void set(Direction direction, const Limits& limits);

  bool idle() const override;
  Answer decide(Direction direction, const Frame& frame) override;

 private:
  std::array<RateLimiter, 2> limiters_;  // by direction
};

}  // namespace hum
