// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "devices/net/frame_filter.h"
#include "devices/net/net_path.h"
#include "vmm/base/counter.h"
#include "vmm/base/log.h"

namespace hum {

// What all threads of an interface share. What is not atomic changes only while all of them stand still.
struct FrameTraffic {
  std::string name;  // for the log
  std::vector<std::unique_ptr<FrameFilter>> filters;
  std::uint64_t driver_features = 0;
  std::uint64_t offloads = 0;  // of net_wire::guest_offloads: those in effect
  std::uint16_t mtu = 1500;    // of the host's end
  std::uint16_t pairs = 1;     // in use: the first ones
  ReceiveRules rules{};
  bool carrier = true;               // otherwise all frames are dropped
  std::chrono::microseconds poll{};  // the most that a thread looks for work before it sleeps
  std::atomic<bool> closed = false;  // some thread has seen the host's end closed: no other one tries
  std::function<void()> link_changed;
  const Log& log;
};

// What one thread of an interface has done. Bytes are those of frames, without headers.
struct FrameCounters {
  Counter rx_frames;  // to the guest
  Counter rx_bytes;
  Counter rx_no_room;   // dropped: larger than the guest's buffers
  Counter rx_unwanted;  // dropped: the driver does not want them, or could not read them
  Counter rx_filtered;
  Counter rx_link;  // dropped: the link is down
  Counter rx_host;  // lost by the host
  Counter tx_frames;
  Counter tx_bytes;
  Counter tx_malformed;  // dropped: no frame, or a header that lies
  Counter tx_filtered;
  Counter tx_link;
  Counter tx_host;
};

}  // namespace hum
