// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

#include "devices/net/frame_receiver.h"
#include "devices/net/frame_transmitter.h"
#include "devices/queue_service.h"
#include "vmm/base/fd.h"

namespace hum {

// The thread of one pair of queues, over one activation.
class FrameWorker {
 public:
  // All but the queues outlives the worker. reopened is signalled when the host's end may be open again.
  // Throws HostError.
  FrameWorker(FrameTraffic& traffic, FrameEndpoint& endpoint, std::uint16_t pair, const EventFd& reopened,
              std::vector<virtio::ActiveQueue> queues, virtio::DeviceEvents& events, FrameCounters& counters);
  FrameWorker(const FrameWorker&) = delete;
  FrameWorker& operator=(const FrameWorker&) = delete;

  // The queues as the guest left them: what waited in the worker is in them again, or lost. Once.
  std::vector<virtio::ActiveQueue> stop();

  // Runs work on the thread, which then goes on with what it finds changed; false, and nothing is run, after
  // a broken ring.
  bool call(const std::function<void()>& work);

 private:
  void look_again();
  void closed(int error);

  FrameTraffic& traffic_;
  const EventFd& reopened_;
  FrameReceiver receiver_;
  FrameTransmitter transmitter_;
  QueueService service_;  // last: its thread ends before what it uses
};

}  // namespace hum
