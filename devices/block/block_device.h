// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/block/block_backend.h"
#include "devices/block/block_engines.h"
#include "devices/block/block_worker.h"
#include "devices/block/open_image.h"
#include "vmm/device/device.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// A disk (virtio 1.2, 5.2), whose queues one or several threads serve. The guest sees whole blocks: what an
// image has behind its last whole block is neither readable nor writable.
class BlockDevice final : public virtio::VirtioDevice {
 public:
  struct Settings {
    std::string name;  // for the log
    ImageSettings image{};
    bool read_only = false;
    std::string id = {};           // at most 20 bytes; the guest shows it as the disk's serial number
    std::uint32_t block_size = 0;  // a power of two from 512; 0: the image's
    std::uint16_t queues = 1;
    std::uint16_t queue_size = 256;    // a power of two from 4
    std::uint16_t threads = 1;         // at most as many as queues
    std::chrono::microseconds poll{};  // the most that a thread looks for work before it sleeps
    BlockEngineKind engine = BlockEngineKind::automatic;
    std::uint64_t size = 0;        // bytes; an image that is smaller is made so large; 0: as it is
    bool pause_on_error = false;   // where the host fails ask for a pause, and try again after it
    TokenBucketLimit bandwidth{};  // bytes
    TokenBucketLimit operations{};
  };

  // control and log outlive the device.
  BlockDevice(std::unique_ptr<BlockBackend> backend, Settings settings, MachineControl& control,
              const Log& log);
  ~BlockDevice() override { deactivate(); }

  std::uint32_t type() const override { return 2; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  void read_config(std::uint32_t offset, std::span<std::byte> data) const override;
  void write_config(std::uint32_t offset, std::span<const std::byte> data) override;
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override;
  void deactivate() override;
  std::vector<virtio::ActiveQueue> suspend() override;
  void apply(const OptionValues& options) override;
  void fields(StateVisitor& visitor) override;
  std::vector<virtio::DeviceReport::Own> report() const override;
  std::vector<virtio::DeviceReport::Latency> latencies() const override;

 private:
  void take_size();

  std::unique_ptr<BlockBackend> backend_;
  Settings settings_;
  BlockDisk disk_;
  std::vector<std::uint16_t> queue_sizes_;
  std::vector<BlockCounters> counters_;    // of each thread
  std::vector<BlockLatencies> latencies_;  // of each queue
  bool chosen_writeback_ = true;           // what the driver has set in configuration space
  std::vector<HeldRequest> held_;          // while it is not active
  std::vector<std::unique_ptr<BlockWorker>> workers_;
  // Of the last activation, until a reset.
  std::uint64_t driver_features_ = 0;
  virtio::DeviceEvents* events_ = nullptr;
  bool change_untold_ = false;  // of the configuration, while there was nobody to tell
};

extern const DeviceKind block_kind;

}  // namespace hum
