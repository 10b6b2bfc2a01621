// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "devices/net/net_path.h"
#include "devices/vhost_user/vhost_user_service.h"
#include "vmm/base/log.h"
#include "vmm/memory/guest_memory.h"

namespace hum {

// The frames of an interface in the hands of another process, over a Unix socket: the server reads and fills
// the receive and transmit queues itself. The control queue stays here. While the server is away the link is
// down, and its successor goes on behind the last frame that was given back: a server gives them back in
// their order. What was on its way may be lost, as on any wire.
class VhostUserNetPath final : public NetPath {
 public:
  struct Settings {
    std::string what = "vhost-user-net";  // in errors
    std::string path;                     // of the socket
    std::uint16_t pairs = 1;
    std::optional<std::uint16_t> mtu;          // for the server to know, if it wants to
    std::chrono::milliseconds patience{5000};  // for each answer of the server
  };

  // memory and log outlive the path. Throws ConfigError where memory is not shared, or where no server
  // answers that serves an interface like this.
  VhostUserNetPath(const Settings& settings, const GuestMemory& memory, const Log& log);
  ~VhostUserNetPath() override { stop(); }

  std::uint64_t features() const override;
  std::uint64_t ring_features() const override;
  std::uint16_t pairs() const override { return pairs_; }
  std::optional<std::uint16_t> mtu() const override { return mtu_; }

  void start(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
             virtio::DeviceEvents& events) override;
  std::vector<virtio::ActiveQueue> stop() override;

  // With the server at work it is stopped and started again, since features are agreed on before that.
  void set_offloads(std::uint64_t accepted) override;
  void use_pairs(std::uint16_t count) override;
  void set_rules(const ReceiveRules& /*rules*/) override {
  }  // the server filters nothing, nor is that offered
  void set_carrier(bool up) override;

  bool link() const override { return connected_.load(std::memory_order_relaxed); }
  void on_link_change(std::function<void()> changed) override;

  std::vector<virtio::DeviceReport::Own> report() const override;

 private:
  void connect(const Settings& settings);
  std::uint64_t accepted() const;
  void begin(std::vector<virtio::ActiveQueue> queues);
  void greet(VhostUserClient& client) const;
  void tell_connection(bool connected);
  bool is_enabled(std::uint16_t queue) const;
  void enable_queues();

  VhostUserServer server_;
  const std::uint16_t pairs_;
  const std::optional<std::uint16_t> mtu_;
  std::uint64_t offered_ = 0;          // of what the server offers, what is known here
  std::uint64_t driver_features_ = 0;  // that the driver has accepted
  std::uint64_t offloads_ = 0;         // of net_wire::guest_offloads, those in use
  virtio::DeviceEvents* events_ = nullptr;
  std::vector<std::uint16_t> queues_;  // that were started
  std::atomic<std::uint16_t> used_pairs_ = 1;
  std::atomic<bool> carrier_ = true;
  std::atomic<bool> connected_ = true;
  std::mutex mutex_;               // guards the next
  std::function<void()> changed_;  // called on the service's thread
  std::unique_ptr<VhostUserService> service_;
};

}  // namespace hum
