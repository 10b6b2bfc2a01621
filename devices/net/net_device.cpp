// SPDX-License-Identifier: Apache-2.0
#include "devices/net/net_device.h"

#include <utility>

#include "devices/config_space.h"
#include "devices/net/net_wire.h"

namespace hum {

using namespace net_wire;

namespace {

// 5.1.2: behind the queues of all pairs, for a driver that knows only one: behind those of the first.
std::uint16_t control_index(std::uint64_t driver_features, std::uint16_t pairs) {
  return static_cast<std::uint16_t>(2 * ((driver_features & feature_mq) != 0 ? pairs : 1));
}

}  // namespace

NetDevice::NetDevice(std::unique_ptr<NetPath> path, Settings settings)
    : path_(std::move(path)),
      settings_(std::move(settings)),
      link_(settings_.link),
      queue_sizes_(2 * std::size_t{path_->pairs()} + 1, settings_.queue_size),
      control_(*path_, settings_.mac) {
  path_->on_link_change([this] { link_changed(); });
}

NetDevice::~NetDevice() {
  deactivate();
  path_->on_link_change({});
}

std::uint64_t NetDevice::features() const {
  std::uint64_t features = path_->features() | feature_mac | feature_status | feature_ctrl_vq |
                           feature_ctrl_mac_addr | feature_guest_announce;
  if (settings_.mtu) features |= feature_mtu;
  if (path_->pairs() > 1) features |= feature_mq;
  if ((features & guest_offloads) != 0) features |= feature_ctrl_guest_offloads;
  return features;
}

void NetDevice::read_config(std::uint32_t offset, std::span<std::byte> data) const {
  ConfigSpace space;
  space.mac = control_.mac().bytes;
  if (is_up())
    space.status =
        static_cast<std::uint16_t>(status_link_up | (control_.wants_announcement() ? status_announce : 0));
  space.max_virtqueue_pairs = path_->pairs();
  space.mtu = settings_.mtu.value_or(0);
  read_config_space(bytes_of(space), offset, data);
}

void NetDevice::activate(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                         virtio::DeviceEvents& events) {
  {
    const std::lock_guard lock(events_mutex_);
    events_ = &events;
  }
  control_.begin(driver_features);
  path_->set_carrier(link_);
  if (std::exchange(moved_, false)) link_changed();
  const std::uint16_t control_at = control_index(driver_features, path_->pairs());
  std::vector<virtio::ActiveQueue> traffic;
  std::vector<virtio::ActiveQueue> control;
  for (virtio::ActiveQueue& each : queues) {
    const bool is_control = each.index == control_at && (driver_features & feature_ctrl_vq) != 0;
    (is_control ? control : each.index < control_at ? traffic : idle_).push_back(std::move(each));
  }
  path_->start(driver_features, std::move(traffic), events);
  if (control.empty()) return;
  service_ = std::make_unique<QueueService>("net-control", std::move(control), events);
  service_->start([this](std::uint16_t index) { serve_control(index); });
}

std::vector<virtio::ActiveQueue> NetDevice::suspend() {
  // First the control queue's thread, which may be calling the path.
  std::vector<virtio::ActiveQueue> queues = QueueService::end(service_);
  for (virtio::ActiveQueue& each : path_->stop()) queues.push_back(std::move(each));
  for (virtio::ActiveQueue& each : std::exchange(idle_, {})) queues.push_back(std::move(each));
  return queues;
}

void NetDevice::deactivate() {
  suspend();
  {
    const std::lock_guard lock(events_mutex_);
    events_ = nullptr;
  }
  control_.reset();
}

void NetDevice::serve_control(std::uint16_t index) {
  service_->drain(index, [&](virtio::DescriptorChain& chain) {
    std::uint32_t written = 0;
    {
      const std::lock_guard lock(path_mutex_);
      written = control_.obey(chain);
    }
    service_->queue(index)->push(chain.head, written);
    return true;
  });
}

// Any thread. A link that is up again may be another one, so the network learns where the guest is.
void NetDevice::link_changed() {
  control_.want_announcement();
  const std::lock_guard lock(events_mutex_);
  if (events_ != nullptr) events_->config_changed();
}

void NetDevice::apply(const OptionValues& options) {
  if (settings_.apply) settings_.apply(options);
  const std::lock_guard lock(path_mutex_);
  const bool was_up = link_.exchange(options.flag("link"));
  path_->set_carrier(link_);
  if (was_up != link_) link_changed();
}

// Link and limits are this machine's.
void NetDevice::fields(StateVisitor& visitor) {
  visitor.same("pairs", path_->pairs());
  visitor.same("mtu", settings_.mtu.value_or(0));
  control_.fields(visitor);
  visitor.afterwards([this] {
    moved_ = true;
    if (settings_.took_mac) settings_.took_mac(control_.own());
  });
}

std::vector<virtio::DeviceReport::Own> NetDevice::report() const {
  std::vector<virtio::DeviceReport::Own> report = path_->report();
  report.push_back({"control_errors", control_.errors()});
  return report;
}

}  // namespace hum
