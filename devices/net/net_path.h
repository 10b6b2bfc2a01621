// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "devices/net/mac_address.h"
#include "vmm/virtio/virtio_device.h"

namespace hum {

// Which frames the driver wants to see (virtio 1.2, 5.1.6.5.1, 5.1.6.5.2), and on how many pairs of queues.
struct ReceiveRules {
  static constexpr std::size_t most_addresses = 64;

  MacAddress own;
  bool promiscuous = true;  // until the driver says otherwise, where it can say so
  bool all_multicast = false;
  bool all_unicast = false;
  bool no_multicast = false;
  bool no_unicast = false;
  bool no_broadcast = false;
  std::vector<MacAddress> unicast;
  std::vector<MacAddress> multicast;

  bool wants(const MacAddress& destination) const;
};

// Who carries the frames of an interface between its queues and the host: threads of this process
// (FramePath), the kernel (vhost-net), or another process (vhost-user). NetDevice owns one and calls it from
// one thread at a time, all but link and report.
class NetPath {
 public:
  virtual ~NetPath() = default;

  // Device features that depend on the path: offloads, MRG_RXBUF, and CTRL_RX, CTRL_VLAN where it filters.
  virtual std::uint64_t features() const = 0;
  virtual std::uint64_t ring_features() const {
    return virtio::feature_indirect_desc | virtio::feature_event_idx;
  }
  virtual bool uses_call_fds() const { return false; }
  virtual std::uint16_t pairs() const = 0;
  virtual std::optional<std::uint16_t> mtu() const = 0;

  // As VirtioDevice::activate and suspend, of the receive and transmit queues alone.
  virtual void start(std::uint64_t driver_features, std::vector<virtio::ActiveQueue> queues,
                     virtio::DeviceEvents& events) = 0;
  virtual std::vector<virtio::ActiveQueue> stop() = 0;

  // Started or not; what is set stays until it is set again. Throw HostError.
  virtual void set_offloads(std::uint64_t accepted) = 0;  // of net_wire::guest_offloads
  virtual void use_pairs(std::uint16_t count) = 0;
  virtual void set_rules(const ReceiveRules& rules) = 0;
  virtual void set_carrier(bool up) = 0;  // down: frames are dropped both ways

  // Whether the host's end is connected, and who is told when that may have changed, from any thread.
  virtual bool link() const { return true; }
  virtual void on_link_change(std::function<void()> /*changed*/) {}

  virtual std::vector<virtio::DeviceReport::Own> report() const { return {}; }
};

}  // namespace hum
