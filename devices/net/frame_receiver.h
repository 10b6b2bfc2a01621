// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "devices/net/frame_endpoint.h"
#include "devices/net/frame_gate.h"
#include "devices/net/frame_traffic.h"
#include "devices/net/net_wire.h"
#include "devices/queue_service.h"

namespace hum {

// Moves frames from the host's end of a pair into the guest's buffers (virtio 1.2, 5.1.6.3, 5.1.6.4). They
// are read straight into them: requests are taken for that before there is a frame, and wait here for it. A
// frame that is larger than they are is read in part into memory of our own, and waits for more buffers where
// one may have several (MRG_RXBUF). Belongs to the service's thread.
class FrameReceiver {
 public:
  // The host's end is closed; error: an errno, or 0.
  using Closed = std::function<void(int error)>;

  FrameReceiver(QueueService& service, const FrameTraffic& traffic, FrameEndpoint& endpoint,
                std::uint16_t pair, FrameCounters& counters, Closed closed);

  // Moves what there is to move, up to a turn's frames; true if that was something.
  bool receive();

  // The host's end is open again, or what is shared has changed.
  void look_again();

  // The end: gives the requests back that no frame came for. The frame that waits is lost.
  void give_back();

 private:
  enum class Step : std::uint8_t { done, no_frame, no_room, held, closed };

  Step step();
  Step read();
  Step make_room();
  Step pass();
  bool is_wanted();
  void deliver();
  Step drop(Counter& reason);
  void gather(std::uint64_t bytes);
  std::size_t spread(std::size_t bytes, std::size_t most_parts);
  const virtio::DescriptorChain& held(std::size_t number) const;
  bool mergeable() const;
  std::size_t likely_bytes() const;

  QueueService& service_;
  const FrameTraffic& traffic_;
  FrameEndpoint& endpoint_;
  std::uint16_t pair_;
  std::uint16_t index_;  // of the queue
  FrameCounters& counters_;
  Closed closed_;
  FrameGate gate_;
  int watched_ = -1;

  // Requests that wait for a frame: a ring of as many as the queue can have.
  std::vector<virtio::DescriptorChain> chains_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::uint64_t room_ = 0;  // in bytes

  // The frame under way.
  std::size_t bytes_ = 0;       // with its header; 0: there is none
  std::size_t in_buffers_ = 0;  // of these, those that the guest's buffers have room for
  bool looked_at_ = false;
  bool filtered_ = false;
  FrameGate::Clock::time_point give_up_at_{};
  std::vector<iovec> parts_;     // where it is
  std::vector<std::byte> rest_;  // of a frame that is larger than the buffers
  net_wire::Header header_;
  std::array<std::byte, sizeof(net_wire::Header) + Frame::most_start_bytes> start_;
  std::vector<iovec> behind_start_;
};

}  // namespace hum
