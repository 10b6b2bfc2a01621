// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/block/raw_file.h"
#include "devices/queue_service.h"
#include "devices/rate_limiter.h"
#include "vmm/base/counter.h"
#include "vmm/base/fd.h"
#include "vmm/device/device.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// A file as memory of the guest (virtio 1.3, 5.19): what the guest writes there is in the host's page cache,
// and a flush request brings it to the disk. The memory is a multiple of 2 MiB large; what lies behind the
// file's end is memory of the machine, which is gone with it. One queue, served by a thread of its own.
class PmemDevice final : public virtio::VirtioDevice {
 public:
  struct Settings {
    std::string what = "pmem";     // in errors
    std::string path{};            // of the file, for messages
    TokenBucketLimit bandwidth{};  // bytes; a flush is one of the whole file
    TokenBucketLimit operations{};
  };
  // Brings a file's changes to its disk as fdatasync(2) does: 0, or -1 and errno.
  using Sync = int (*)(int file);

  // Throws ConfigError where the file has no bytes or the guest no addresses for them, HostError.
  PmemDevice(std::unique_ptr<RawFile> file, const Settings& settings, DeviceContext& context);
  PmemDevice(std::unique_ptr<RawFile> file, const Settings& settings, DeviceContext& context, Sync sync);
  ~PmemDevice() override;

  std::uint32_t type() const override { return 27; }
  std::uint64_t features() const override { return 0; }
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  void read_config(std::uint32_t offset, std::span<std::byte> data) const override;
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override;
  std::vector<virtio::ActiveQueue> suspend() override;
  void apply(const OptionValues& options) override;
  void fields(StateVisitor& visitor) override;
  std::vector<virtio::DeviceReport::Own> report() const override;

 private:
  void serve();
  bool may_flush();
  std::uint32_t answer(const virtio::DescriptorChain& chain, std::uint32_t status) const;
  bool bring_to_disk();

  std::unique_ptr<RawFile> file_;
  const Log& log_;
  std::string path_;
  DeviceMemory& device_memory_;
  Sync sync_;
  MemoryRegion region_;
  std::uint32_t slot_ = 0;
  RateLimiter limiter_;
  static constexpr std::array<std::uint16_t, 1> queue_sizes_ = {64};
  // The requests of one turn, which share a flush; only the first `taken_` count.
  std::array<virtio::DescriptorChain, 64> requests_;
  std::size_t taken_ = 0;
  bool failure_told_ = false;
  Counter flushes_;
  Counter errors_;
  std::unique_ptr<QueueService> service_;
  std::optional<Timer> limit_timer_;  // of the service
};

extern const DeviceKind pmem_kind;

}  // namespace hum
