// SPDX-License-Identifier: Apache-2.0
#include "devices/net/frame_path.h"

#include <exception>
#include <utility>

#include "devices/net/net_wire.h"

namespace hum {

using namespace net_wire;

FramePath::FramePath(std::unique_ptr<NetBackend> backend, std::vector<std::unique_ptr<FrameFilter>> filters,
                     Settings settings, const Log& log)
    : backend_(std::move(backend)),
      traffic_{.name = std::move(settings.name),
               .filters = std::move(filters),
               .mtu = backend_->mtu().value_or(1500),
               .poll = settings.poll,
               .link_changed = [this] { tell_link(); },
               .log = log},
      counters_(backend_->pairs()),
      reopened_(backend_->pairs()) {
  backend_->on_link_change([this] {
    traffic_.closed = false;
    for (const EventFd& each : reopened_) each.signal();
    tell_link();
  });
}

FramePath::~FramePath() {
  backend_->on_link_change({});
}

std::uint64_t FramePath::features() const {
  return (backend_->offloads() & (guest_offloads | host_offloads)) | feature_mrg_rxbuf | feature_ctrl_rx |
         feature_ctrl_rx_extra;
}

void FramePath::start(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                      virtio::DeviceEvents& events) {
  traffic_.driver_features = driver_features;
  for (std::uint16_t pair = 0; pair < pairs(); ++pair) {
    std::vector<virtio::ActiveQueue> own;
    for (virtio::ActiveQueue& each : queues)
      if (each.index / 2 == pair) own.push_back(std::move(each));
    if (own.empty()) continue;
    workers_.push_back(std::make_unique<FrameWorker>(
        traffic_, backend_->endpoint(pair), pair, reopened_[pair], std::move(own), events, counters_[pair]));
  }
}

std::vector<virtio::ActiveQueue> FramePath::stop() {
  std::vector<virtio::ActiveQueue> queues;
  for (const auto& worker : workers_)
    for (virtio::ActiveQueue& each : worker->stop()) queues.push_back(std::move(each));
  workers_.clear();
  return queues;
}

void FramePath::set_offloads(std::uint64_t accepted) {
  change([&] {
    backend_->set_offloads(accepted);
    traffic_.offloads = accepted;
  });
}

void FramePath::use_pairs(std::uint16_t count) {
  change([&] {
    backend_->use_pairs(count);
    traffic_.pairs = count;
  });
}

void FramePath::set_rules(const ReceiveRules& rules) {
  change([&] { traffic_.rules = rules; });
}

void FramePath::set_carrier(bool up) {
  change([&] { traffic_.carrier = up; });
}

void FramePath::change(const std::function<void()>& work) {
  std::exception_ptr refused;
  while_all_stand(0, [&] {
    try {
      work();
    } catch (const std::exception&) {  // not the threads' affair
      refused = std::current_exception();
    }
  });
  if (refused) std::rethrow_exception(refused);
}

// Each worker's thread waits in here for that of the next one, and the last one does the work.
void FramePath::while_all_stand(std::size_t first, const std::function<void()>& work) {
  if (first == workers_.size()) return work();
  const bool reached = workers_[first]->call([&] { while_all_stand(first + 1, work); });
  if (!reached) while_all_stand(first + 1, work);
}

void FramePath::tell_link() {
  const std::lock_guard lock(mutex_);
  if (link_changed_) link_changed_();
}

void FramePath::on_link_change(std::function<void()> changed) {
  const std::lock_guard lock(mutex_);
  link_changed_ = std::move(changed);
}

std::vector<virtio::DeviceReport::Own> FramePath::report() const {
  static constexpr std::pair<std::string_view, Counter FrameCounters::*> all[] = {
      {"rx_frames", &FrameCounters::rx_frames},
      {"rx_bytes", &FrameCounters::rx_bytes},
      {"rx_dropped_no_room", &FrameCounters::rx_no_room},
      {"rx_dropped_unwanted", &FrameCounters::rx_unwanted},
      {"rx_dropped_filter", &FrameCounters::rx_filtered},
      {"rx_dropped_link_down", &FrameCounters::rx_link},
      {"rx_lost_by_host", &FrameCounters::rx_host},
      {"tx_frames", &FrameCounters::tx_frames},
      {"tx_bytes", &FrameCounters::tx_bytes},
      {"tx_dropped_malformed", &FrameCounters::tx_malformed},
      {"tx_dropped_filter", &FrameCounters::tx_filtered},
      {"tx_dropped_link_down", &FrameCounters::tx_link},
      {"tx_lost_by_host", &FrameCounters::tx_host},
  };
  std::vector<virtio::DeviceReport::Own> report;
  for (const auto& [name, counter] : all) {
    std::uint64_t sum = 0;
    for (const FrameCounters& each : counters_) sum += (each.*counter).get();
    report.push_back({name, sum});
  }
  return report;
}

}  // namespace hum
