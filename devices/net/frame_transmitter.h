// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "devices/net/frame_endpoint.h"
#include "devices/net/frame_gate.h"
#include "devices/net/frame_traffic.h"
#include "devices/net/net_wire.h"
#include "devices/queue_service.h"
#include "vmm/base/fd.h"

namespace hum {

// Moves frames of the guest to the host's end of a pair (virtio 1.2, 5.1.6.2), straight from the guest's
// buffers, but for the header and what filters look at: those are copied once, checked, and sent as the copy.
// What the host does not take yet waits here, and all behind it in the queue. Belongs to the service's
// thread.
class FrameTransmitter {
 public:
  // The host's end is closed; error: an errno, or 0.
  using Closed = std::function<void(int error)>;

  FrameTransmitter(QueueService& service, const FrameTraffic& traffic, FrameEndpoint& endpoint,
                   std::uint16_t pair, FrameCounters& counters, Closed closed);

  // Moves what there is to move, up to a turn's frames.
  void transmit();

  // The host's end is open again, or what is shared has changed.
  void look_again();

  // The end: the frame that waits goes back into its queue.
  void give_back();

 private:
  void wait_for_host();
  void stop_waiting();
  bool prepare();
  bool finish();
  bool send();
  bool drop(Counter& reason);
  void complete();

  QueueService& service_;
  const FrameTraffic& traffic_;
  FrameEndpoint& endpoint_;
  std::uint16_t pair_;
  std::uint16_t index_;  // of the queue
  FrameCounters& counters_;
  Closed closed_;
  FrameGate gate_;
  bool is_full_ = false;  // the host's end
  Fd writable_;           // the endpoint's descriptor again, whose watch for reading is another one

  // The frame under way.
  bool busy_ = false;
  bool filtered_ = false;  // its start is a copy
  virtio::DescriptorChain chain_;
  std::size_t bytes_ = 0;        // without its header
  std::size_t checksum_at_ = 0;  // as in Frame
  std::array<std::byte, sizeof(net_wire::Header) + Frame::most_start_bytes> start_;
  std::size_t start_bytes_ = 0;  // with the header
  std::vector<iovec> parts_;     // first the start
};

}  // namespace hum
