// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>

#include "devices/block/block_backend.h"
#include "devices/queue_service.h"
#include "vmm/device/device.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// A disk (virtio 1.2, 5.2). One queue, served by a thread of its own. The guest sees whole sectors of 512
// bytes: what an image has behind its last whole sector is neither readable nor writable.
class BlockDevice final : public virtio::VirtioDevice {
 public:
  struct Settings {
    std::string name;  // for the log
    bool read_only = false;
    std::string id;  // at most 20 bytes; the guest shows it as the disk's serial number
  };

  // log outlives the device.
  BlockDevice(std::unique_ptr<BlockBackend> backend, Settings settings, const Log& log);
  ~BlockDevice() override { deactivate(); }

  std::uint32_t type() const override { return 2; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_sizes() const override;
  void read_config(std::uint32_t offset, std::span<std::byte> data) const override;
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override;
  std::vector<virtio::ActiveQueue> suspend() override;
  void fields(StateVisitor& visitor) override;
  std::vector<virtio::DeviceReport::Own> report() const override;

 private:
  struct Request;
  struct Answer;

  std::uint32_t serve(virtio::DescriptorChain& chain);
  Answer execute(const Request& request);
  Answer read(const Request& request);
  Answer write(const Request& request);
  Answer give_id(const Request& request) const;
  bool in_range(std::uint64_t sector, std::uint64_t bytes) const;
  std::uint8_t status_of(BlockResult result);

  std::unique_ptr<BlockBackend> backend_;
  Settings settings_;
  const Log& log_;
  std::uint64_t capacity_;      // sectors
  bool write_through_ = false;  // of this activation: the driver cannot flush
  bool failure_logged_ = false;
  Counter bytes_read_;
  Counter bytes_written_;
  Counter flushes_;
  Counter errors_;  // requests that were answered with an error
  std::unique_ptr<QueueService> service_;
};

extern const DeviceKind block_kind;

}  // namespace hum
