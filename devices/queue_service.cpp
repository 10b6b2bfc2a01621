// SPDX-License-Identifier: Apache-2.0
#include "devices/queue_service.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "vmm/base/errors.h"

namespace hum {
namespace {

using Clock = std::chrono::steady_clock;

void pause_processor() {
  __builtin_ia32_pause();
}

}  // namespace

QueueService::QueueService(const std::string& thread_name, std::vector<virtio::ActiveQueue> queues,
                           virtio::DeviceEvents& events)
    : events_(events), thread_(thread_name) {
  for (virtio::ActiveQueue& each : queues)
    served_.push_back({each.index, each.kick_fd, std::move(each.queue), {}});
}

void QueueService::wait_with(std::function<bool(int fd)> wait) {
  thread_.call([&] { wait_ = std::move(wait); });
}

void QueueService::poll(PollWindow::Duration most, std::function<bool()> look) {
  thread_.call([&] {
    idle_window_ = busy_window_ = PollWindow(most);
    look_ = std::move(look);
  });
}

void QueueService::start(Kicked kicked) {
  thread_.call([&] {
    kicked_ = std::move(kicked);
    thread_.loop().set_sleeper(this);
    for (const Served& each : served_) {
      watch(each.kick_fd, EventLoop::Interest::readable, [this, fd = each.kick_fd, index = each.index] {
        std::uint64_t count = 0;
        if (::read(fd, &count, sizeof count) == sizeof count)
          queue(index)->counters().notifications.add(count);
        kicked_(index);
      });
      serve_later(each.index);
    }
  });
}

void QueueService::call(const std::function<void()>& work) {
  thread_.call([&] { guarded(work); });
}

std::vector<virtio::ActiveQueue> QueueService::stop(const std::function<void()>& last) {
  stopping_.store(true, std::memory_order_relaxed);
  std::vector<virtio::ActiveQueue> queues;
  thread_.call([&] {
    end_service();
    last();
    for (Served& each : served_) queues.push_back({each.index, std::move(each.queue), each.kick_fd});
    served_.clear();
  });
  return queues;
}

std::vector<virtio::ActiveQueue> QueueService::end(std::unique_ptr<QueueService>& service) {
  if (!service) return {};
  std::vector<virtio::ActiveQueue> queues = service->stop();
  service.reset();
  return queues;
}

std::vector<std::uint16_t> QueueService::indices() const {
  std::vector<std::uint16_t> indices;
  for (const Served& each : served_) indices.push_back(each.index);
  return indices;
}

virtio::VirtQueue* QueueService::queue(std::uint16_t index) {
  Served* const served = find(index);
  return served == nullptr ? nullptr : served->queue.get();
}

bool QueueService::take(std::uint16_t index, virtio::DescriptorChain& chain) {
  Served* const served = find(index);
  if (served == nullptr) return false;
  served->queue->disable_kicks();
  served->drained = !served->queue->pop(chain);
  served->notified = false;
  return !served->drained;
}

QueueService::Served* QueueService::find(std::uint16_t index) {
  const auto found =
      std::find_if(served_.begin(), served_.end(), [&](const Served& each) { return each.index == index; });
  return found == served_.end() ? nullptr : &*found;
}

void QueueService::watch(int fd, EventLoop::Interest interest, std::function<void()> ready) {
  if (watched_.contains(fd)) return;
  thread_.loop().watch(fd, interest, [this, work = std::move(ready)] { guarded(work); });
  watched_.insert(fd);
}

void QueueService::unwatch(int fd) {
  if (watched_.erase(fd) != 0) thread_.loop().unwatch(fd);
}

void QueueService::guarded(const std::function<void()>& work) {
  if (ended_) return;
  try {
    work();
  } catch (const std::exception& error) {  // GuestError, a host that refuses, no memory: this device stops
    end_service();
    events_.needs_reset(error.what());
  }
}

void QueueService::end_service() {
  ended_ = true;
  thread_.loop().set_sleeper(nullptr);
  for (const int fd : watched_) thread_.loop().unwatch(fd);
  watched_.clear();
}

void QueueService::serve_later(std::uint16_t index) {
  thread_.loop().post([this, index] { guarded([&] { kicked_(index); }); });
}

bool QueueService::before_sleep() {
  bool more = false;
  guarded([&] { more = look_for_work() || ask_for_kicks(); });
  return more || ended_;  // with the service ends its sleeping
}

bool QueueService::sleep(int fd) {
  PollWindow& window = this->window();
  const auto since = window.polls() ? Clock::now() : Clock::time_point();
  bool readable = true;
  if (wait_) {
    guarded([&] { readable = wait_(fd); });
  } else {
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    ::poll(&entry, 1, -1);
  }
  if (window.polls()) window.slept(Clock::now() - since);
  return readable;
}

bool QueueService::look_for_work() {
  // The loop's other descriptors get their turn in between.
  constexpr int most_finds = 16;
  for (int finds = 0; finds < most_finds; ++finds) {
    PollWindow& window = this->window();
    if (window.length() == window.length().zero()) return finds != 0;
    for (Served& each : served_) {
      each.queue->disable_kicks();
      each.notified = false;
    }
    const auto end = Clock::now() + window.length();
    bool found = false;
    do {
      if (thread_.loop().called()) return true;
      found = (look_ && look_()) || serve_new();
      if (!found) pause_processor();
    } while (!found && Clock::now() < end);
    if (!found) {
      window.missed();
      return false;
    }
    window.found();
  }
  return true;
}

bool QueueService::serve_new() {
  bool any = false;
  for (const Served& each : served_) {
    if (!each.drained || !each.queue->has_available()) continue;
    kicked_(each.index);
    any = true;
  }
  return any;
}

bool QueueService::ask_for_kicks() {
  bool any = false;
  for (Served& each : served_) {
    if (!each.drained || each.notified) continue;
    each.notified = true;
    if (!each.queue->enable_kicks()) continue;
    kicked_(each.index);
    any = true;
  }
  return any;
}

PollWindow& QueueService::window() {
  const bool busy = std::any_of(served_.begin(), served_.end(),
                                [](const Served& each) { return each.queue->with_device() != 0; });
  return busy ? busy_window_ : idle_window_;
}

}  // namespace hum
