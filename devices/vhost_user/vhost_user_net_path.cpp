// SPDX-License-Identifier: Apache-2.0
#include "devices/vhost_user/vhost_user_net_path.h"

#include <algorithm>
#include <utility>

#include "devices/net/net_wire.h"
#include "vmm/base/errors.h"

namespace hum {

using namespace net_wire;

namespace {

constexpr std::uint64_t known_features = guest_offloads | host_offloads | feature_mrg_rxbuf;
constexpr std::uint64_t known_ring_features = virtio::feature_indirect_desc | virtio::feature_event_idx;

}  // namespace

VhostUserNetPath::VhostUserNetPath(const Settings& settings, const GuestMemory& memory, const Log& log)
    : server_{.name = settings.what + " '" + settings.path + "'",
              .path = settings.path,
              .patience = settings.patience,
              .memory = memory,
              .log = log},
      pairs_(settings.pairs),
      mtu_(settings.mtu) {
  require_shared(memory, settings.what, settings.path);
  try {
    connect(settings);
  } catch (const VhostUserError& error) {
    throw ConfigError(settings.what, settings.path,
                      std::string("no interface is served there: ") + error.what(),
                      "start the server, for example a switch with a vhost-user port in server mode");
  }
}

void VhostUserNetPath::connect(const Settings& settings) {
  server_.client = std::make_unique<VhostUserClient>(server_.path, VhostUserPatience{server_.patience});
  VhostUserClient& client = *server_.client;
  if (!(client.features() & virtio::feature_version_1))
    throw VhostUserError("the server is too old for virtio 1");
  if (!client.disables_rings()) throw VhostUserError("the server cannot hold a queue that is not in use");
  client.require_queues(settings.what, settings.pairs, feature_mq);
  offered_ =
      client.features() & (known_features | known_ring_features | (settings.pairs > 1 ? feature_mq : 0));
}

std::uint64_t VhostUserNetPath::features() const {
  return offered_ & known_features;
}

std::uint64_t VhostUserNetPath::ring_features() const {
  return offered_ & known_ring_features;
}

// A server has no business with features that it did not offer, and none with what the driver has switched
// off again.
std::uint64_t VhostUserNetPath::accepted() const {
  return driver_features_ & (offered_ | virtio::feature_version_1) & ~(guest_offloads & ~offloads_);
}

void VhostUserNetPath::start(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                             virtio::DeviceEvents& events) {
  driver_features_ = driver_features;
  events_ = &events;
  queues_.clear();
  for (const virtio::ActiveQueue& each : queues) queues_.push_back(each.index);
  begin(std::move(queues));
}

void VhostUserNetPath::begin(std::vector<virtio::ActiveQueue> queues) {
  service_ = std::make_unique<VhostUserService>(
      server_,
      VhostUserService::Device{.features = accepted(),
                               .queues = static_cast<std::uint16_t>(2 * pairs_),
                               .greet = [this](VhostUserClient& client) { greet(client); },
                               .config_changed = [](VhostUserClient&) {},
                               .keeps_requests = true,
                               .is_enabled = [this](std::uint16_t queue) { return is_enabled(queue); },
                               .connection_changed = [this](bool now) { tell_connection(now); }},
      std::move(queues), *events_);
}

std::vector<virtio::ActiveQueue> VhostUserNetPath::stop() {
  if (!service_) return {};
  std::vector<virtio::ActiveQueue> queues = service_->stop();
  service_.reset();
  return queues;
}

// The guest keeps its driver over a change of servers, so what that has agreed to must still be true.
void VhostUserNetPath::greet(VhostUserClient& client) const {
  const std::uint64_t promised = driver_features_ & offered_;
  if ((client.features() & promised) != promised || !client.disables_rings() || client.most_queues() < pairs_)
    throw VhostUserError("it cannot do all that the guest's driver was promised");
  if (mtu_ && client.takes_mtu()) client.set_mtu(*mtu_);
}

void VhostUserNetPath::set_offloads(std::uint64_t accepted_offloads) {
  const std::uint64_t before = accepted();
  offloads_ = accepted_offloads & guest_offloads;
  if (service_ && accepted() != before) begin(stop());
}

void VhostUserNetPath::use_pairs(std::uint16_t count) {
  used_pairs_ = count;
  enable_queues();
}

void VhostUserNetPath::set_carrier(bool up) {
  carrier_ = up;
  enable_queues();
}

// A disabled transmit queue is emptied for nothing, a disabled receive queue left as it is.
bool VhostUserNetPath::is_enabled(std::uint16_t queue) const {
  return carrier_ && queue / 2 < used_pairs_;
}

// A server that is away learns of it when it is back.
void VhostUserNetPath::enable_queues() {
  if (!service_) return;
  service_->call([&](VhostUserClient& client) {
    for (const std::uint16_t queue : queues_) client.enable_ring(queue, is_enabled(queue));
    client.settle();
  });
}

void VhostUserNetPath::tell_connection(bool connected) {
  if (connected_.exchange(connected) == connected) return;
  const std::lock_guard lock(mutex_);
  if (changed_) changed_();
}

void VhostUserNetPath::on_link_change(std::function<void()> changed) {
  const std::lock_guard lock(mutex_);
  changed_ = std::move(changed);
}

std::vector<virtio::DeviceReport::Own> VhostUserNetPath::report() const {
  return {{"reconnections", server_.reconnections.get()}};
}

}  // namespace hum
