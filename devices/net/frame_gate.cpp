// SPDX-License-Identifier: Apache-2.0
#include "devices/net/frame_gate.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {

FrameGate::FrameGate(QueueService& service, const FrameTraffic& traffic, FrameFilter::Direction direction,
                     std::function<void()> again)
    : service_(service), traffic_(traffic), direction_(direction), again_(std::move(again)) {}

bool FrameGate::looks() const {
  return std::any_of(traffic_.filters.begin(), traffic_.filters.end(),
                     [](const auto& each) { return !each->idle(); });
}

FrameFilter::Verdict FrameGate::ask(const Frame& frame) {
  if (held_until_ != Clock::time_point() && Clock::now() < held_until_) return FrameFilter::Verdict::hold;
  held_until_ = {};
  for (; next_ < traffic_.filters.size(); ++next_) {
    FrameFilter& filter = *traffic_.filters[next_];
    if (filter.idle()) continue;
    const FrameFilter::Answer answer = filter.decide(direction_, frame);
    if (answer.verdict == FrameFilter::Verdict::pass) continue;
    if (answer.verdict == FrameFilter::Verdict::hold) {
      held_until_ = Clock::now() + answer.wait;
      wait(answer.wait);
    } else {
      forget();
    }
    return answer.verdict;
  }
  forget();
  return FrameFilter::Verdict::pass;
}

void FrameGate::forget() {
  next_ = 0;
  held_until_ = {};
}

void FrameGate::wait(Clock::duration time) {
  if (!timer_) {
    timer_.emplace();
    service_.watch(timer_->fd(), EventLoop::Interest::readable, [this] {
      timer_->stop();
      again_();
    });
  }
  timer_->set(time);
}

void append_range(std::span<const iovec> parts, std::size_t offset, std::size_t bytes,
                  std::vector<iovec>& to) {
  for (const iovec& part : parts) {
    if (bytes == 0) return;
    if (offset >= part.iov_len) {
      offset -= part.iov_len;
      continue;
    }
    const std::size_t here = std::min(part.iov_len - offset, bytes);
    to.push_back({static_cast<std::byte*>(part.iov_base) + offset, here});
    bytes -= here;
    offset = 0;
  }
}

}  // namespace hum
