// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/end_latch.h"

#include <utility>

#include "vmm/base/endian.h"
#include "vmm/machine/layout.h"

namespace hum {

EndLatch::EndLatch(const GuestMemory& memory, std::function<void()> stop_vcpus)
    : memory_(memory), stop_vcpus_(std::move(stop_vcpus)) {}

// Linux stores the reboot mode here on its way down; with reboot=panic_warm only a panic makes it warm.
bool EndLatch::after_panic() const {
  return memory_.read<le16>(layout::reset_flag) == layout::reset_flag_warm;
}

void EndLatch::power_off() {
  end({.cause = EndCause::power_off});
}
void EndLatch::reset() {
  end({.cause = after_panic() ? EndCause::panic : EndCause::reboot});
}
void EndLatch::debug_exit(std::uint32_t code) {
  end({.cause = EndCause::debug_exit, .guest_exit_code = code});
}
void EndLatch::guest_panicked() {
  end({.cause = EndCause::panic});
}
bool EndLatch::triple_fault() {
  return end({.cause = after_panic() ? EndCause::panic : EndCause::triple_fault});
}

bool EndLatch::end(End end) {
  {
    const std::lock_guard lock(mutex_);
    if (end_.cause != EndCause::running) return false;
    end_ = std::move(end);
  }
  stop_vcpus_();
  ended_.signal();
  return true;
}

void EndLatch::want_pause(std::string_view reason) {
  const std::lock_guard lock(mutex_);
  if (!pause_reason_.empty()) return;
  pause_reason_ = reason;
  pause_wanted_.signal();
}

std::string EndLatch::take_pause_reason() {
  const std::lock_guard lock(mutex_);
  pause_wanted_.drain();
  return std::exchange(pause_reason_, {});
}

void EndLatch::device_broke(std::string_view device, std::string_view reason) {
  const std::lock_guard lock(mutex_);
  if (device_errors_.size() == most_device_errors) return;
  device_errors_.push_back({std::string(device), std::string(reason)});
  device_errors_told_.signal();
}

std::vector<DeviceError> EndLatch::take_device_errors() {
  const std::lock_guard lock(mutex_);
  device_errors_told_.drain();
  return std::exchange(device_errors_, {});
}

EndLatch::End EndLatch::get() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

}  // namespace hum
