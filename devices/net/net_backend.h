// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "devices/net/frame_endpoint.h"

namespace hum {

// Where the frames of an interface come from and go to, on the host: one FrameEndpoint for each pair of
// queues. Made with the device, lives as long.
class NetBackend {
 public:
  virtual ~NetBackend() = default;

  virtual std::string_view kind() const = 0;  // "tap", "user"
  // Of net_wire::guest_offloads and host_offloads, what the host's end can do.
  virtual std::uint64_t offloads() const = 0;
  virtual std::uint16_t pairs() const = 0;  // from 1 on, fixed
  // Of the host's end, where it has one: bytes of a frame without its Ethernet header.
  virtual std::optional<std::uint16_t> mtu() const { return {}; }

  // index below pairs(). The endpoint stays the backend's.
  virtual FrameEndpoint& endpoint(std::uint16_t index) = 0;

  // From now on frames to the guest may need these of net_wire::guest_offloads; none at first. Not while an
  // endpoint is in use by another thread, unless the backend says it may be. Throws HostError.
  virtual void set_offloads(std::uint64_t accepted) = 0;
  // The first so many pairs are in use; one at first. As set_offloads. Throws HostError.
  virtual void use_pairs(std::uint16_t count) = 0;

  // Whether the host's end is connected. changed is called from any thread, whenever the answer may be
  // another one; until the backend's end, or until replaced by an empty function.
  virtual bool link() const { return true; }
  virtual void on_link_change(std::function<void()> /*changed*/) {}
};

}  // namespace hum
