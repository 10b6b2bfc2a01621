// SPDX-License-Identifier: Apache-2.0
#include "devices/net/rate_filter.h"

namespace hum {

RateFilter::RateFilter(const Limits& from_guest, const Limits& to_guest) {
  set(Direction::from_guest, from_guest);
  set(Direction::to_guest, to_guest);
}

void RateFilter::set(Direction direction, const Limits& limits) {
  limiters_[static_cast<std::size_t>(direction)].set(limits.bytes, limits.frames);
}

bool RateFilter::idle() const {
  return !limiters_[0].limited() && !limiters_[1].limited();
}

FrameFilter::Answer RateFilter::decide(Direction direction, const Frame& frame) {
  const auto wait = limiters_[static_cast<std::size_t>(direction)].take(frame.bytes);
  if (wait == wait.zero()) return {};
  return {Verdict::hold, wait};
}

}  // namespace hum
