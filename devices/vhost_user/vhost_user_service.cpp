// SPDX-License-Identifier: Apache-2.0
#include "devices/vhost_user/vhost_user_service.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

#include "devices/vhost_user/ring_order.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::chrono::milliseconds shortest_delay{100};
constexpr std::chrono::milliseconds longest_delay{1000};
constexpr std::chrono::microseconds drain_poll{100};
constexpr unsigned most_messages = 20;

Fd make_timer() {
  Fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer) throw HostError(errno, "create a timer", "raise the limit of open files (ulimit -n)");
  return timer;
}

}  // namespace

CallRelay::CallRelay(EventLoop& loop, virtio::VirtQueue& queue) : loop_(loop), queue_(queue) {
  loop_.watch(call_.fd(), EventLoop::Interest::readable, [this] { deliver(); });
}

CallRelay::~CallRelay() {
  loop_.unwatch(call_.fd());
}

void CallRelay::deliver() {
  if (call_.drain()) queue_.relay_interrupt();
}

void CallRelay::raise() {
  call_.drain();
  queue_.relay_interrupt();
}

VhostUserService::VhostUserService(VhostUserServer& server, Device device,
                                   std::vector<virtio::ActiveQueue> queues, virtio::DeviceEvents& events)
    : server_(server),
      device_(std::move(device)),
      events_(events),
      timer_(make_timer()),
      delay_(shortest_delay),
      thread_("vhost-user") {
  thread_.call([&] {
    for (virtio::ActiveQueue& each : queues) {
      auto relay = std::make_unique<CallRelay>(thread_.loop(), *each.queue);
      const std::uint16_t first = each.queue->next_available();
      rings_.push_back({std::move(each), first, std::move(relay)});
    }
    thread_.loop().watch(timer_.get(), EventLoop::Interest::readable, [this] {
      set_timer({});
      guarded([this] { connect(); });
    });
    thread_.loop().post([this] { guarded([this] { connect(); }); });
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
  server_.client->set_patience({server_.patience, stop_.fd()});
  start_rings();
  if (ended_) return;
  connected_ = true;
  since_ = Clock::now();
  watch();
  if (std::exchange(lost_, false)) {
    server_.reconnections.add();
    say("the server is back");
  }
  // What was offered while nobody looked, and what a server that is gone had been told of.
  for (const Ring& ring : rings_) {
    const std::uint64_t one = 1;
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
    virtio::VirtQueue& queue = *ring.active.queue;
    ring.relay->raise();
    queue.take_over();
    if (!server_.inflight && !answered_in_order(server_.memory, queue.layout(), ring.first))
      return give_up(
          "the server has answered out of order and kept no list of requests in flight before it was lost");
  }
  client.set_features(device_.features);
  client.share(server_.memory);
  if (client.tracks_inflight()) prepare_inflight();
  begun_ = true;
  for (const Ring& ring : rings_)
    client.start_ring(ring.active.index, *ring.active.queue, ring.active.kick_fd, ring.relay->fd());
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
  if (!std::exchange(lost_, true)) say("the server is away, requests wait for its return: " + reason);
  set_timer(delay_);
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

// Zero: none.
void VhostUserService::set_timer(std::chrono::milliseconds delay) {
  itimerspec when{};
  when.it_value.tv_sec = delay.count() / 1000;
  when.it_value.tv_nsec = delay.count() % 1000 * 1'000'000;
  ::timerfd_settime(timer_.get(), 0, &when, nullptr);
}

std::vector<virtio::ActiveQueue> VhostUserService::stop() {
  std::vector<virtio::ActiveQueue> queues;
  stop_.signal();  // an attempt to connect ends at once
  thread_.call([&] {
    if (std::exchange(stopped_, true)) return;
    unwatch();
    thread_.loop().unwatch(timer_.get());
    stop_.drain();
    const bool quiet = !begun_ ? !server_.inflight : take_rings_back();
    if (quiet)
      server_.inflight.reset();
    else
      server_.client.reset();
    for (Ring& ring : rings_) {
      if (quiet)
        ring.relay->deliver();
      else
        ring.relay->raise();
      ring.relay.reset();
      if (begun_) ring.active.queue->take_over();
      if (!quiet && !server_.inflight && !ended_ &&
          !answered_in_order(server_.memory, ring.active.queue->layout(), ring.first))
        give_up("requests were in flight of which a later one was answered before");
      queues.push_back(std::move(ring.active));
    }
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
  try {
    if (!wait_until([this] { return drained(); }, end)) return false;
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

bool VhostUserService::drained() const {
  return std::all_of(rings_.begin(), rings_.end(), [](const Ring& ring) {
    return ring.active.queue->used_index() == ring.active.queue->offered_index();
  });
}

bool VhostUserService::wait_until(const std::function<bool()>& condition, Clock::time_point end) const {
  while (!condition()) {
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(drain_poll);
  }
  return true;
}

}  // namespace hum
