// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/queue_service.h"
#include "devices/rate_limiter.h"
#include "vmm/base/counter.h"
#include "vmm/base/fd.h"
#include "vmm/device/device.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// Random numbers from the host's kernel (virtio 1.2, 5.4). One queue, served by a thread of its own.
class EntropyDevice final : public virtio::VirtioDevice {
 public:
  // Fills a part of the buffer as getrandom(2) does: bytes filled, or -1 and errno.
  using Source = ssize_t (*)(std::span<std::byte> buffer);

  // The most bytes and the most requests.
  struct Limits {
    TokenBucketLimit bandwidth{};
    TokenBucketLimit operations{};
  };

  explicit EntropyDevice(const Limits& limits);
  EntropyDevice(const Limits& limits, Source source);
  ~EntropyDevice() override { deactivate(); }

  std::uint32_t type() const override { return 4; }
  std::uint64_t features() const override { return 0; }
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  void read_config(std::uint32_t offset, std::span<std::byte> data) const override;
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override;
  std::vector<virtio::ActiveQueue> suspend() override;
  void apply(const OptionValues& options) override;
  std::vector<virtio::DeviceReport::Own> report() const override;

 private:
  void serve(std::uint16_t index);
  void serve_after(std::uint16_t index, TokenBucket::Clock::duration wait);
  std::uint32_t fill(std::span<const iovec> buffers) const;

  Source source_;
  RateLimiter limiter_;
  Counter throttled_;           // times that a limit held requests up
  std::optional<Timer> timer_;  // from the first request on that a limit held up
  std::array<std::uint16_t, 1> queue_sizes_ = {64};
  std::unique_ptr<QueueService> service_;
};

extern const DeviceKind entropy_kind;

}  // namespace hum
