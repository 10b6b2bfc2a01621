// SPDX-License-Identifier: Apache-2.0
#include "devices/vhost_user/vhost_user_service.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::chrono::milliseconds shortest_delay{100};
constexpr std::chrono::milliseconds longest_delay{1000};
constexpr timespec drain_poll{.tv_sec = 0, .tv_nsec = 100'000};
constexpr unsigned most_messages = 20;
constexpr const char* untracked =
    "it is not known which requests were in flight at a server that kept no list";

}  // namespace

CallRelay::CallRelay(EventLoop& loop, virtio::VirtQueue& queue, const GuestMemory& memory)
    : loop_(loop), queue_(queue), watch_(memory, queue.layout()) {
  loop_.watch(call_.fd(), EventLoop::Interest::readable, [this] { deliver(); });
}

CallRelay::~CallRelay() {
  loop_.unwatch(call_.fd());
}

void CallRelay::deliver() {
  if (call_.drain()) relay();
}

void CallRelay::raise() {
  call_.drain();
  relay();
}

// The watch first, while the driver does not yet know and goes on.
void CallRelay::relay() {
  watch_.look();
  queue_.relay_interrupt();
}

VhostUserService::VhostUserService(VhostUserServer& server, Device device,
                                   std::vector<virtio::ActiveQueue> queues, virtio::DeviceEvents& events)
    : server_(server),
      device_(std::move(device)),
      events_(events),
      delay_(shortest_delay),
      thread_("vhost-user") {
  thread_.call([&] {
    std::vector<Ring> rings;  // a failure ends the relays here, while their loop lives
    for (virtio::ActiveQueue& each : queues) {
      auto relay = std::make_unique<CallRelay>(thread_.loop(), *each.queue, server_.memory);
      rings.push_back({std::move(each), std::move(relay)});
    }
    thread_.loop().watch(timer_.fd(), EventLoop::Interest::readable, [this] {
      timer_.stop();
      guarded([this] { connect(); });
    });
    thread_.loop().post([this] { guarded([this] { connect(); }); });
    rings_ = std::move(rings);
  });
}

void VhostUserService::call(const std::function<void(VhostUserClient&)>& work) {
  thread_.call([&] {
    if (connected_) guarded([&] { work(*server_.client); });
  });
}

void VhostUserService::guarded(const std::function<void()>& work) {
  if (ended_) return;
  try {
    work();
  } catch (const GuestError& error) {
    give_up(error.what());
  } catch (const std::exception& error) {  // the server, a host that refuses, no memory: tried again later
    lose(error.what());
  }
}

// The connection that there is from before may have ended meanwhile, which nobody has watched.
void VhostUserService::connect() {
  if (server_.client) {
    try {
      establish();
      return;
    } catch (const VhostUserError&) {
      server_.client.reset();
    }
  }
  server_.client =
      std::make_unique<VhostUserClient>(server_.path, VhostUserPatience{server_.patience, stop_.fd()});
  establish();
}

void VhostUserService::establish() {
  // From here on its patience alone ends a wait: a server that is well must not look like one that died.
  server_.client->set_patience({server_.patience});
  start_rings();
  if (ended_) return;
  connected_ = true;
  since_ = Clock::now();
  watch();
  if (std::exchange(lost_, false)) {
    server_.reconnections.add();
    say("the server is back");
  }
  device_.connection_changed(true);
  kick();  // for what was offered while nobody looked, and what a server that is gone had been told of
}

void VhostUserService::kick() const {
  const std::uint64_t one = 1;
  for (const Ring& ring : rings_) {
    [[maybe_unused]] const ssize_t written = ::write(ring.active.kick_fd, &one, sizeof one);
  }
}

void VhostUserService::start_rings() {
  VhostUserClient& client = *server_.client;
  device_.greet(client);
  if (server_.inflight && !client.tracks_inflight())
    throw VhostUserError("it does not keep a list of requests in flight, as the one before did");
  for (const Ring& ring : rings_) {
    if (!begun_) continue;
    ring.relay->raise();
    ring.active.queue->take_over();
  }
  if (begun_ && !server_.inflight && !device_.keeps_requests && !put_back()) return give_up(untracked);
  client.set_features(device_.features);
  client.share(server_.memory);
  if (client.tracks_inflight() && !device_.keeps_requests) prepare_inflight();
  begun_ = true;
  for (const Ring& ring : rings_)
    client.start_ring(ring.active.index, *ring.active.queue, ring.active.kick_fd, ring.relay->fd(),
                      !device_.is_enabled || device_.is_enabled(ring.active.index));
  client.settle();
}

void VhostUserService::prepare_inflight() {
  if (!server_.inflight) {
    std::uint16_t largest = 0;
    for (const Ring& ring : rings_) largest = std::max(largest, ring.active.queue->layout().size);
    server_.inflight = server_.client->get_inflight(device_.queues, largest);
  }
  server_.client->set_inflight(*server_.inflight);
}

void VhostUserService::watch() {
  EventLoop& loop = thread_.loop();
  loop.watch(server_.client->fd(), EventLoop::Interest::readable,
             [this] { guarded([] { throw VhostUserError("it has closed the connection"); }); });
  if (server_.client->channel_fd() < 0) return;
  loop.watch(server_.client->channel_fd(), EventLoop::Interest::readable, [this] {
    guarded([this] {
      if (server_.client->take_request()) device_.config_changed(*server_.client);
    });
  });
}

void VhostUserService::unwatch() {
  if (!server_.client) return;
  thread_.loop().unwatch(server_.client->fd());
  thread_.loop().unwatch(server_.client->channel_fd());
}

void VhostUserService::lose(const std::string& reason) {
  unwatch();
  server_.client.reset();
  if (std::exchange(connected_, false)) {
    if (Clock::now() - since_ > longest_delay) delay_ = shortest_delay;
    for (const Ring& ring : rings_) ring.relay->raise();
  }
  device_.connection_changed(false);
  if (!std::exchange(lost_, true)) say("the server is away, requests wait for its return: " + reason);
  timer_.set(delay_);
  delay_ = std::min(2 * delay_, longest_delay);
}

// The driver has to begin anew.
void VhostUserService::give_up(const std::string& reason) {
  unwatch();
  server_.client.reset();
  connected_ = false;
  ended_ = true;
  events_.needs_reset(reason);
}

void VhostUserService::say(const std::string& text) {
  if (++server_.messages <= most_messages) server_.log.warning(server_.name + ": " + text);
}

std::vector<virtio::ActiveQueue> VhostUserService::stop() {
  std::vector<virtio::ActiveQueue> queues;
  stop_.signal();  // an attempt to connect ends at once
  thread_.call([&] {
    if (std::exchange(stopped_, true)) return;
    unwatch();
    thread_.loop().unwatch(timer_.fd());
    const bool quiet = !begun_ ? !server_.inflight : take_rings_back();
    if (quiet)
      server_.inflight.reset();
    else
      server_.client.reset();
    const bool lost = !quiet && !server_.inflight && !device_.keeps_requests && !put_back();
    for (Ring& ring : rings_) {
      if (quiet)
        ring.relay->deliver();
      else
        ring.relay->raise();
      ring.relay.reset();
      if (begun_) ring.active.queue->take_over();
      queues.push_back(std::move(ring.active));
    }
    if (lost && !ended_) give_up(untracked);
    rings_.clear();
    ended_ = true;
    connected_ = false;
  });
  return queues;
}

// True if no request is in flight any more.
bool VhostUserService::take_rings_back() {
  const bool broken = std::any_of(rings_.begin(), rings_.end(), [](const Ring& ring) {
    const virtio::VirtQueue& queue = *ring.active.queue;
    return static_cast<std::uint16_t>(queue.offered_index() - queue.used_index()) > queue.layout().size;
  });
  if (broken) return false;
  if (!connected_) return drained();
  const Clock::time_point end = Clock::now() + server_.patience;
  kick();  // for what the driver has offered and not told of: it may not run until this is over
  try {
    if (!device_.keeps_requests && !wait_until([this] { return drained(); }, end)) return false;
    bool all = true;
    for (const Ring& ring : rings_) {
      const std::uint16_t position = server_.client->stop_ring(ring.active.index);
      all &= wait_until([&] { return ring.active.queue->used_index() == position; }, end);
    }
    return all;
  } catch (const VhostUserError&) {
    return false;
  }
}

bool VhostUserService::put_back() {
  return std::all_of(rings_.begin(), rings_.end(), [](Ring& ring) { return ring.relay->watch().put_back(); });
}

bool VhostUserService::drained() const {
  return std::all_of(rings_.begin(), rings_.end(), [](const Ring& ring) {
    return ring.active.queue->used_index() == ring.active.queue->offered_index();
  });
}

bool VhostUserService::wait_until(const std::function<bool()>& condition, Clock::time_point end) const {
  while (!condition()) {
    if (Clock::now() >= end) return false;
    pollfd socket{.fd = server_.client->fd(), .events = POLLIN, .revents = 0};
    if (::ppoll(&socket, 1, &drain_poll, nullptr) > 0) return condition();  // the server is gone
  }
  return true;
}

}  // namespace hum
