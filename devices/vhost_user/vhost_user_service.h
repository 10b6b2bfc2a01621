// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/vhost_user/vhost_user_client.h"
#include "vmm/base/counter.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/ring_watch.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// Delivers the interrupts of a ring that is served elsewhere (a vhost-user server, the kernel): the server
// signals an eventfd, and a thread that watches it raises the queue's interrupt. Belongs to that thread.
class CallRelay {
 public:
  CallRelay(EventLoop& loop, virtio::VirtQueue& queue, const GuestMemory& memory);
  ~CallRelay();
  CallRelay(const CallRelay&) = delete;
  CallRelay& operator=(const CallRelay&) = delete;

  int fd() const { return call_.fd(); }
  void deliver();  // if it was signalled
  // Whether it was signalled or not, for a server that may have died before it did.
  void raise();
  virtio::RingWatch& watch() { return watch_; }

 private:
  void relay();

  EventLoop& loop_;
  virtio::VirtQueue& queue_;
  virtio::RingWatch watch_;
  EventFd call_;
};

// The server of a device, over all activations: its place, and the connection while there is one. Belongs to
// the device, and to the service's thread while there is a service; the counter may be read by any thread.
struct VhostUserServer {
  std::string name;  // of device and socket, in messages
  std::string path;
  std::chrono::milliseconds patience{5000};  // for each answer
  const GuestMemory& memory;
  const Log& log;
  std::unique_ptr<VhostUserClient> client = nullptr;
  // Of rings that were stopped with requests in flight, or are in use.
  std::optional<InflightArea> inflight = std::nullopt;
  Counter reconnections = {};
  unsigned messages = 0;  // a server that comes and goes does not fill the log
};

// The queues of one activation, in the hands of a vhost-user server, and the thread that keeps them there: it
// delivers interrupts and connects again when the server is gone, for as long as that takes. Meanwhile the
// guest's requests wait in their rings, and those the server had taken are taken again by its successor: from
// the list of requests in flight that the server keeps in shared memory, or, where it keeps none, as
// RingWatch has seen them; where that does not know, the driver has to reset. A device makes a service in
// activate and ends it in suspend.
class VhostUserService {
 public:
  struct Device {
    std::uint64_t features = 0;  // that the driver has accepted
    std::uint16_t queues = 0;    // that it could have enabled
    // Called on the service's thread. greet: for each connection, before its rings start; throws
    // VhostUserError if this server cannot go on where the device is. config_changed: the server says so.
    std::function<void(VhostUserClient&)> greet;
    std::function<void(VhostUserClient&)> config_changed;
    // Requests stay in their rings until the server has use for them, come back in their order, and may be
    // lost with it: receive buffers, and frames.
    bool keeps_requests = false;
    // Called on the service's thread. Whether a ring is to be enabled from its start on; all are without it.
    std::function<bool(std::uint16_t index)> is_enabled = nullptr;
    // Called on the service's thread when a server has got the rings, and when it is lost.
    std::function<void(bool connected)> connection_changed = [](bool) {};
  };

  // Returns without waiting for the server. server and events outlive the service. Throws HostError.
  VhostUserService(VhostUserServer& server, Device device, std::vector<virtio::ActiveQueue> queues,
                   virtio::DeviceEvents& events);
  ~VhostUserService() { stop(); }
  VhostUserService(const VhostUserService&) = delete;
  VhostUserService& operator=(const VhostUserService&) = delete;

  // Runs work with the server on the service's thread and returns when it is done; skipped while there is no
  // server.
  void call(const std::function<void(VhostUserClient&)>& work);

  // The end: waits for the requests in flight as long as the server's patience lasts, not at all if it is
  // gone. server.inflight is empty afterwards unless requests are still in flight. The queues go on at their
  // used index; once.
  std::vector<virtio::ActiveQueue> stop();

 private:
  using Clock = std::chrono::steady_clock;
  struct Ring {
    virtio::ActiveQueue active;
    std::unique_ptr<CallRelay> relay;
  };

  void guarded(const std::function<void()>& work);
  void connect();
  void establish();
  void start_rings();
  void prepare_inflight();
  void watch();
  void unwatch();
  void lose(const std::string& reason);
  void say(const std::string& text);
  void kick() const;
  bool take_rings_back();
  bool put_back();
  bool drained() const;
  bool wait_until(const std::function<bool()>& condition, Clock::time_point end) const;
  void give_up(const std::string& reason);

  VhostUserServer& server_;
  Device device_;
  virtio::DeviceEvents& events_;
  EventFd stop_;
  Timer timer_;
  std::vector<Ring> rings_;
  bool connected_ = false;  // the server has the rings
  bool lost_ = false;       // there is none, which was logged
  bool begun_ = false;      // a server had the rings in this activation
  bool ended_ = false;      // by a broken ring, or by stop
  bool stopped_ = false;
  std::chrono::milliseconds delay_;  // until the next attempt
  Clock::time_point since_;          // of the connection
  IoThread thread_;                  // last: ends before what it uses
};

}  // namespace hum
