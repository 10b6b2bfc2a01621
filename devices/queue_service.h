// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "vmm/base/event_loop.h"
#include "vmm/base/poll_window.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// The queues of one activation and the thread that serves them. A device makes one in activate, and in
// suspend stops and then destroys it. A broken ring (GuestError) stops all service and tells the transport
// once; the device then waits for its reset. start, call and stop belong to the device's owner, all other
// functions to the service's thread.
class QueueService final : private EventLoop::Sleeper {
 public:
  // Called for a queue whenever the driver has notified it, and once at the start.
  using Kicked = std::function<void(std::uint16_t index)>;

  // thread_name: at most 15 characters. events outlives the service. Throws HostError.
  QueueService(const std::string& thread_name, std::vector<virtio::ActiveQueue> queues,
               virtio::DeviceEvents& events);
  ~QueueService() override { stop(); }
  QueueService(const QueueService&) = delete;
  QueueService& operator=(const QueueService&) = delete;

  // Before start: the thread sleeps by this instead: it waits until fd is readable, and returns true then, or
  // for the device's own work, which it does, and returns false.
  void wait_with(std::function<bool(int fd)> wait);

  // Before start: the thread may look for work by itself for up to so long before it sleeps, as far as work
  // does come in that time (PollWindow): for requests, which the driver then need not notify of, and with
  // look, which does what there is to do and tells if there was something.
  void poll(PollWindow::Duration most, std::function<bool()> look);

  // Begins to serve. Throws HostError.
  void start(Kicked kicked);

  // Runs work on the service's thread and returns when it is done; skipped after a broken ring.
  void call(const std::function<void()>& work);

  // The end: when it returns, nothing of the device runs on the thread any more, and the queues are the
  // caller's; once. last runs on the thread when nothing else does any more, with the queues still there.
  std::vector<virtio::ActiveQueue> stop(const std::function<void()>& last = [] {});

  // Stops and destroys a service, if there is one: the whole of a device's suspend.
  static std::vector<virtio::ActiveQueue> end(std::unique_ptr<QueueService>& service);

  // Of its queues, in the device.
  std::vector<std::uint16_t> indices() const;

  // The queue with this index in the device; null if the driver did not enable it.
  virtio::VirtQueue* queue(std::uint16_t index);

  // VirtQueue::take_all for one turn: handle answers a request with true, or leaves the queue with false.
  // True if the queue ran empty. A queue with more requests than a turn has is served again by itself after
  // the others had theirs. handle may drain other queues.
  template <class Handle>
  bool drain(std::uint16_t index, Handle&& handle) {
    Served* const served = find(index);
    if (served == nullptr) return true;
    int left = requests_per_turn;
    served->drained = served->queue->take_all(served->chain, [&](virtio::DescriptorChain& chain) {
      if (stopping() || left-- == 0) {
        served->queue->undo_pop();
        serve_later(index);
        return false;
      }
      return handle(chain);
    });
    served->notified = false;
    return served->drained;
  }

  // Takes one request without a turn, for a device that needs it before there is work for it; nothing is
  // published. False if there is none: the next one is told of (Kicked).
  bool take(std::uint16_t index, virtio::DescriptorChain& chain);

  // Another turn for the queue, after the others had theirs.
  void serve_later(std::uint16_t index);

  // EventLoop::watch and unwatch, but a descriptor that is watched already stays as it is. A broken ring ends
  // the watches.
  void watch(int fd, EventLoop::Interest interest, std::function<void()> ready);
  void unwatch(int fd);

  // True once the end has begun: work that takes long looks here, and leaves.
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

 private:
  static constexpr int requests_per_turn = 256;

  struct Served {
    std::uint16_t index;
    int kick_fd;
    std::unique_ptr<virtio::VirtQueue> queue;
    virtio::DescriptorChain chain;
    bool drained = false;   // its next request is to be served as it comes
    bool notified = false;  // the driver tells of that
  };

  bool before_sleep() override;
  bool sleep(int fd) override;
  bool look_for_work();
  bool serve_new();
  bool ask_for_kicks();
  PollWindow& window();
  Served* find(std::uint16_t index);
  void guarded(const std::function<void()>& work);
  void end_service();

  std::vector<Served> served_;
  virtio::DeviceEvents& events_;
  Kicked kicked_;
  std::set<int> watched_;
  std::function<bool(int fd)> wait_;
  std::function<bool()> look_;
  PollWindow idle_window_{PollWindow::Duration{}};  // while no request is with the device
  PollWindow busy_window_{PollWindow::Duration{}};  // while one is
  bool ended_ = false;                              // by a broken ring, or by stop
  std::atomic<bool> stopping_ = false;
  IoThread thread_;  // last: ends before what it uses
};

}  // namespace hum
