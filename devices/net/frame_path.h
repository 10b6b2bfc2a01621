// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "devices/net/frame_traffic.h"
#include "devices/net/frame_worker.h"
#include "devices/net/net_backend.h"
#include "devices/net/net_path.h"
#include "vmm/base/fd.h"

namespace hum {

// Frames by threads of this process, one for each pair of queues, through a chain of filters: the first one
// is asked first, in both directions.
class FramePath final : public NetPath {
 public:
  struct Settings {
    std::string name;                  // for the log
    std::chrono::microseconds poll{};  // the most that a thread looks for work before it sleeps
  };

  // log outlives the path. Throws HostError.
  FramePath(std::unique_ptr<NetBackend> backend, std::vector<std::unique_ptr<FrameFilter>> filters,
            Settings settings, const Log& log);
  ~FramePath() override;

  std::uint64_t features() const override;
  std::uint16_t pairs() const override { return backend_->pairs(); }
  std::optional<std::uint16_t> mtu() const override { return backend_->mtu(); }
  void start(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
             virtio::DeviceEvents& events) override;
  std::vector<virtio::ActiveQueue> stop() override;
  void set_offloads(std::uint64_t accepted) override;
  void use_pairs(std::uint16_t count) override;
  void set_rules(const ReceiveRules& rules) override;
  void set_carrier(bool up) override;
  bool link() const override { return backend_->link() && !traffic_.closed; }
  void on_link_change(std::function<void()> changed) override;
  std::vector<virtio::DeviceReport::Own> report() const override;

 private:
  void change(const std::function<void()>& work);
  void while_all_stand(std::size_t first, const std::function<void()>& work);
  void tell_link();

  std::unique_ptr<NetBackend> backend_;
  FrameTraffic traffic_;
  std::vector<FrameCounters> counters_;  // of each pair
  std::vector<EventFd> reopened_;        // of each pair
  std::mutex mutex_;                     // guards the one below
  std::function<void()> link_changed_;
  std::vector<std::unique_ptr<FrameWorker>> workers_;
};

}  // namespace hum
