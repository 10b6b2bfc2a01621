// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace hum {

// What a network without root finds on this host, in the calling thread's network namespace. root: a folder
// that stands for "/", for tests.

// The program passt, as PATH has it; empty: there is none.
std::string find_passt();

// Whether there is a default route, for IPv4 or IPv6: passt gives the guest the addresses of its interface.
bool has_default_route(const std::string& root = {});

// The name servers for a guest, where passt does not find them by itself: /etc/resolv.conf names only this
// host's own, which a guest does not reach, and systemd-resolved knows those behind it.
struct NameServers {
  bool unreachable = false;           // the host's own, and nobody knows others
  std::vector<std::string> replaced;  // those behind; empty: what passt finds is right, or unreachable
};
NameServers guest_name_servers(const std::string& root = {});

}  // namespace hum
