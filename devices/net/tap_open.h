// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "devices/net/mac_address.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

namespace hum {

// Which tap an interface is connected to: exactly one of tap, bridge, macvtap and fds says it.
struct TapSettings {
  std::string what = "net";   // the key of messages is this, a dot and the option's name
  std::string tap = {};       // an interface that there is
  std::string bridge = {};    // that a new tap is added to
  std::string macvtap = {};   // an interface that there is
  std::vector<int> fds = {};  // queues of a tap, inherited; stay the caller's
  std::uint16_t pairs = 1;    // queues; with fds either 1 or their number
  std::optional<std::uint16_t> mtu = {};
};

// A tap whose queues do not block and have a net_wire::Header in front of each frame. One that was made for a
// bridge is gone when the last descriptor is closed.
struct OpenTap {
  std::vector<Fd> queues;
  std::optional<std::uint16_t> mtu;  // unknown for a tap of another network namespace
  // The one address that frames reach this interface by, where it has one: a macvtap's.
  std::optional<MacAddress> address;
};

// Whether frames come to one of several queues, as they do at first; 0 or errno. Frames can be sent in any
// case.
int switch_queue(int fd, bool on);

// Throws ConfigError, HostError.
OpenTap open_tap(const TapSettings& settings, const Log& log);

}  // namespace hum
