// SPDX-License-Identifier: Apache-2.0
#include "devices/net/frame_worker.h"

#include <string>
#include <system_error>
#include <utility>

namespace hum {

FrameWorker::FrameWorker(FrameTraffic& traffic, FrameEndpoint& endpoint, std::uint16_t pair,
                         const EventFd& reopened, std::vector<virtio::ActiveQueue> queues,
                         virtio::DeviceEvents& events, FrameCounters& counters)
    : traffic_(traffic),
      reopened_(reopened),
      receiver_(service_, traffic, endpoint, pair, counters, [this](int error) { closed(error); }),
      transmitter_(service_, traffic, endpoint, pair, counters, [this](int error) { closed(error); }),
      service_("net-" + std::to_string(pair), std::move(queues), events) {
  service_.poll(traffic.poll, [this] { return receiver_.receive(); });
  service_.start([this](std::uint16_t index) {
    if (index % 2 == 0) {
      receiver_.receive();
    } else {
      transmitter_.transmit();
    }
  });
  service_.call([this] {
    service_.watch(reopened_.fd(), EventLoop::Interest::readable, [this] {
      reopened_.drain();
      // Seen on the way, and true no more.
      if (traffic_.closed.exchange(false)) traffic_.link_changed();
      look_again();
    });
  });
}

std::vector<virtio::ActiveQueue> FrameWorker::stop() {
  return service_.stop([this] {
    receiver_.give_back();
    transmitter_.give_back();
  });
}

bool FrameWorker::call(const std::function<void()>& work) {
  bool ran = false;
  service_.call([&] {
    ran = true;
    work();
    look_again();
  });
  return ran;
}

void FrameWorker::look_again() {
  receiver_.look_again();
  transmitter_.look_again();
}

// Also told of by every other thread of the interface.
void FrameWorker::closed(int error) {
  if (traffic_.closed.exchange(true)) return;
  traffic_.log.warning("net '" + traffic_.name + "': the host's end is gone" +
                       (error == 0 ? "" : " (" + std::generic_category().message(error) + ")") +
                       "; the guest's link is down");
  traffic_.link_changed();
}

}  // namespace hum
