// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/net/mac_address.h"
#include "devices/net/net_control.h"
#include "devices/net/net_path.h"
#include "devices/queue_service.h"
#include "vmm/device/device.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// A network interface (virtio 1.2, 5.1). Its frames are the path's business; here are the features, the
// configuration space, the link, and the control queue with a thread of its own.
class NetDevice final : public virtio::VirtioDevice {
 public:
  struct Settings {
    MacAddress mac;
    std::optional<std::uint16_t> mtu{};  // what the guest is told
    std::uint16_t queue_size = 256;      // a power of two
    bool link = true;                    // plugged in
    // What of a change of options is not the device's: called before anything else, and may refuse it.
    std::function<void(const OptionValues&)> apply{};
    // The interface's address is another one than it was made with: that of the state it goes on from.
    std::function<void(const MacAddress&)> took_mac{};
  };

  NetDevice(std::unique_ptr<NetPath> path, Settings settings);
  ~NetDevice() override;

  std::uint32_t type() const override { return 1; }
  std::uint64_t features() const override;
  std::uint64_t ring_features() const override { return path_->ring_features(); }
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  bool uses_call_fds() const override { return path_->uses_call_fds(); }
  void read_config(std::uint32_t offset, std::span<std::byte> data) const override;
  void activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                virtio::DeviceEvents& events) override;
  void deactivate() override;
  std::vector<virtio::ActiveQueue> suspend() override;
  void apply(const OptionValues& options) override;
  void fields(StateVisitor& visitor) override;
  std::vector<virtio::DeviceReport::Own> report() const override;

 private:
  bool is_up() const { return link_ && path_->link(); }
  void link_changed();
  void serve_control(std::uint16_t index);

  std::unique_ptr<NetPath> path_;
  Settings settings_;
  std::atomic<bool> link_;
  std::vector<std::uint16_t> queue_sizes_;
  std::mutex
      path_mutex_;  // one at a time calls the path and control_: the owner, or the control queue's thread
  NetControl control_;
  bool moved_ = false;                      // the driver comes from another machine, or from the past
  std::mutex events_mutex_;                 // guards the one below
  virtio::DeviceEvents* events_ = nullptr;  // of the last activation, until a reset
  std::vector<virtio::ActiveQueue> idle_;   // that the driver has no use for
  std::unique_ptr<QueueService> service_;   // of the control queue
};

}  // namespace hum
