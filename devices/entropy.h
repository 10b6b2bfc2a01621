// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <array>
#include <memory>
#include <span>

#include "devices/queue_service.h"
#include "vmm/device/device.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// Random numbers from the host's kernel (virtio 1.2, 5.4). One queue, served by a thread of its own.
class EntropyDevice final : public virtio::VirtioDevice {
 public:
  // Fills a part of the buffer as getrandom(2) does: bytes filled, or -1 and errno.
  using Source = ssize_t (*)(std::span<std::byte> buffer);

  EntropyDevice();
  explicit EntropyDevice(Source source) : source_(source) {}
  ~EntropyDevice() override { deactivate(); }

  std::uint32_t type() const override { return 4; }
  std::uint64_t features() const override { return 0; }
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  void read_config(std::uint32_t offset, std::span<std::byte> data) const override;
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override;
  std::vector<virtio::ActiveQueue> suspend() override;

 private:
  std::uint32_t fill(std::span<const iovec> buffers) const;

  Source source_;
  std::array<std::uint16_t, 1> queue_sizes_ = {64};
  std::unique_ptr<QueueService> service_;
};

extern const DeviceKind entropy_kind;

}  // namespace hum
