// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "devices/net/frame_filter.h"
#include "devices/net/frame_traffic.h"
#include "devices/queue_service.h"
#include "vmm/base/fd.h"

namespace hum {

// The way of the frames of one direction and one pair of queues through the filters, one frame after the
// other. Belongs to the service's thread.
class FrameGate {
 public:
  using Clock = std::chrono::steady_clock;

  // again is called when a wait is over.
  FrameGate(QueueService& service, const FrameTraffic& traffic, FrameFilter::Direction direction,
            std::function<void()> again);

  // Whether there are filters that look at frames.
  bool looks() const;

  // What becomes of the frame. After hold it is asked for the same frame again, and the filters that have let
  // it pass are not; otherwise the next one is another frame.
  FrameFilter::Verdict ask(const Frame& frame);
  // The frame that was held goes nowhere.
  void forget();

  // Waits so long, then calls again.
  void wait(Clock::duration time);
  // Filters may answer otherwise from now on: a frame that is held need not wait for its time.
  void hurry() { held_until_ = {}; }

 private:
  QueueService& service_;
  const FrameTraffic& traffic_;
  FrameFilter::Direction direction_;
  std::function<void()> again_;
  std::size_t next_ = 0;  // of the filters
  Clock::time_point held_until_{};
  std::optional<Timer> timer_;  // from the first wait on
};

// Appends to `to` what lies in the parts from offset on, so many bytes.
void append_range(std::span<const iovec> parts, std::size_t offset, std::size_t bytes,
                  std::vector<iovec>& to);

}  // namespace hum
