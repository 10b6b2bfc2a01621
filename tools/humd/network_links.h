// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "devices/net/mac_address.h"
#include "tools/humd/network_spec.h"

namespace hum {

// An interface as the kernel describes it.
struct LinkState {
  int index = 0;
  std::string name;
  std::string alias;  // what it is for, in its maker's words
  std::string kind;   // "bridge", "tun" (taps, too), empty for hardware
  MacAddress mac;
  int bridge = 0;  // the index of the one that it is a port of; 0: none
  bool up = false;
  std::optional<uid_t> owner;  // of a tap that has one
  bool multi_queue = false;    // of a tap
};

struct LinkAddress {
  Ipv4Address address{};
  int prefix = 0;

  bool operator==(const LinkAddress&) const = default;
};

struct LinkRoute {
  Subnet subnet;
  int link = 0;
};

// The interfaces of the network namespace of the calling thread (rtnetlink(7)). Each call asks the kernel
// anew; all throw HostError. Changes need CAP_NET_ADMIN.
namespace links {

std::optional<LinkState> find(const std::string& name);
std::vector<LinkState> all();
std::vector<LinkAddress> addresses(int link);
// All IPv4 routes of the main table but the default.
std::vector<LinkRoute> routes();

// Born with that address, and ports carry frames at once.
void make_bridge(const std::string& name, MacAddress mac);
// A tap that stays; born with its alias: a process killed in between leaves nothing.
struct TapRequest {
  std::string name;
  std::string alias;
  uid_t owner = 0;
  bool multi_queue = false;
};
void make_tap(const TapRequest& request);

void set_alias(int link, const std::string& alias);
void set_mac(int link, MacAddress mac);
void set_bridge(int link, int bridge);
void set_up(int link);
// Adds one that is not there.
void add_address(int link, const LinkAddress& address);
void remove_address(int link, const LinkAddress& address);
// Nothing happens where there is no such link.
void remove(int link);

}  // namespace links
}  // namespace hum
