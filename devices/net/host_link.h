// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <net/if.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "devices/net/mac_address.h"

namespace hum {

// A network interface of the host, in the network namespace of the thread that found it. Each answer is the
// kernel's at that moment. Value type. Everything throws HostError, also when the interface is gone.
class HostLink {
 public:
  enum class Kind : std::uint8_t { tap, tun, bridge, macvlan, other };  // macvlan: macvtap is one, too

  // Nothing where there is none of that name.
  static std::optional<HostLink> find(std::string_view name);

  const std::string& name() const { return name_; }
  int index() const;
  Kind kind() const;
  MacAddress address() const;
  std::uint16_t mtu() const;
  bool is_up() const;  // administratively

  // These need CAP_NET_ADMIN.
  void set_mtu(std::uint16_t bytes) const;
  void set_up() const;
  void add_port(const HostLink& port) const;  // of a bridge

 private:
  explicit HostLink(std::string name) : name_(std::move(name)) {}

  std::string name_;
};

// What most ioctls of interfaces and taps take. name: at most 15 bytes.
ifreq interface_request(std::string_view name = {});
MacAddress address_in(const ifreq& request);

}  // namespace hum
