// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "devices/block/block_wire.h"
#include "devices/vhost_user/vhost_user_service.h"
#include "vmm/device/device.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// A disk (virtio 1.2, 5.2) that another process serves over a Unix socket: the server reads the guest's
// requests from the rings itself and answers them in guest memory, all of which it can see. What is here is
// the configuration space, and the way of the rings to the server and back.
class VhostUserBlock final : public virtio::VirtioDevice {
 public:
  struct Settings {
    std::string what = "vhost-user-disk";  // in errors
    std::string path;                      // of the socket
    std::uint16_t queues = 1;
    std::uint16_t queue_size = 256;            // a power of two from 4
    std::chrono::milliseconds patience{5000};  // for each answer of the server
  };

  // memory and log outlive the device. Throws ConfigError where memory is not shared, or where no server
  // answers that has a disk like this.
  VhostUserBlock(const Settings& settings, const GuestMemory& memory, const Log& log);
  ~VhostUserBlock() override { deactivate(); }

  std::uint32_t type() const override { return 2; }
  std::uint64_t features() const override;
  std::uint64_t ring_features() const override;
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  void read_config(std::uint32_t offset, std::span<std::byte> data) const override;
  void write_config(std::uint32_t offset, std::span<const std::byte> data) override;
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override;
  void deactivate() override;
  std::vector<virtio::ActiveQueue> suspend() override;
  void fields(StateVisitor& visitor) override;
  std::vector<virtio::DeviceReport::Own> report() const override;

 private:
  void connect(const Settings& settings);
  block_wire::ConfigSpace config_of(VhostUserClient& client) const;
  void greet(VhostUserClient& client);
  void take_config(VhostUserClient& client);

  VhostUserServer server_;
  std::vector<std::uint16_t> queue_sizes_;
  std::uint64_t offered_ = 0;  // of what the server offers, what is known here
  std::uint64_t accepted_ = 0;
  virtio::DeviceEvents* events_ = nullptr;
  mutable std::mutex mutex_;  // guards the two below: the server may change its configuration at any time
  block_wire::ConfigSpace config_{};
  bool chosen_writeback_ = false;  // by the driver, and before that by the server
  bool first_writeback_ = false;
  std::vector<std::byte> saved_inflight_;  // of a state
  std::uint16_t saved_entries_ = 0;
  std::unique_ptr<VhostUserService> service_;
};

extern const DeviceKind vhost_user_block_kind;

}  // namespace hum
