// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>

namespace hum {

// How long a thread looks for work by itself before it sleeps: longer while the work comes in that time,
// shorter and then not at all while it does not. One thread's.
class PollWindow {
 public:
  using Duration = std::chrono::nanoseconds;

  // most: 0 for a thread that always sleeps at once.
  explicit PollWindow(Duration most) : most_(most) {}

  bool polls() const { return most_ != Duration{}; }
  Duration length() const { return length_; }

  // Work came while the thread looked for it.
  void found() { length_ = std::min(most_, 2 * length_); }
  // It did not, and the thread sleeps.
  void missed() { length_ = length_ / 2 < first() ? Duration{} : length_ / 2; }
  // The thread was woken after that time: looking for so long would have found the work.
  void slept(Duration time) {
    if (time <= most_) length_ = std::min(most_, std::max(first(), 2 * length_));
  }

 private:
  Duration first() const { return most_ / 8; }

  Duration most_;
  Duration length_{};
};

}  // namespace hum
