// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "tools/humd/network_dnsmasq.h"
#include "tools/humd/network_files.h"
#include "tools/humd/network_links.h"
#include "tools/humd/network_spec.h"
#include "vmm/base/log.h"

namespace hum {

struct NetworkHostSettings {
  std::string folder;    // for each network's files and processes; gone with the host's restart, as they are
  std::string instance;  // tells the networks of this state folder from others: letters and digits
  ChangeHook before_change = [](std::string_view) {};
};

// What the host has for networks of VMs: a bridge with the gateway's address, taps, rules of nftables, a
// dnsmasq, and IPv4 forwarding. It remembers nothing but what is on the host: each call looks at what is
// there, leaves what is right and mends the rest, whatever became of the process that made it. Bridges and
// taps carry the mark of the instance in their alias, tables in their name; what has no such mark is refused,
// never changed. Needs root. From any thread, one call at a time is carried out. Everything throws HostError,
// and ConfigError where what is given is wrong.
class NetworkHost {
 public:
  // Looks for dnsmasq and nft. Throws ConfigError: one is missing.
  NetworkHost(NetworkHostSettings settings, const Log& log);

  // Also whenever VMs or their ports have changed: leases are all of the network's. What flows goes on.
  void ensure_network(const NetworkSpec& spec, std::span<const Lease> leases);
  // With all taps of the network. A link of that name that is not ours stays.
  void remove_network(std::uint64_t network);

  // A tap that stays, of that user's, in the bridge. One that is there otherwise is made anew. Its name.
  struct TapWish {
    std::uint64_t vm = 0;
    uid_t owner = 0;
    bool multi_queue = false;
  };
  std::string ensure_tap(std::uint64_t network, const TapWish& wish);
  void remove_tap(std::uint64_t network, std::uint64_t vm);

  // Where this host's packets go but for our own networks and the default route.
  std::vector<Subnet> foreign_routes() const;

 private:
  std::string network_mark(std::uint64_t network) const;
  std::string tap_mark(std::uint64_t network, std::uint64_t vm) const;
  std::string folder_of(std::uint64_t network) const;
  NetworkDnsmasq dnsmasq_of(std::uint64_t network) const;
  bool is_our_bridge(const LinkState& link, std::uint64_t network) const;

  LinkState ensure_bridge(const NetworkSpec& spec);
  void apply_rules(const std::vector<std::string>& command);
  void ensure_forwarding(const NetworkSpec& spec);
  void put_forwarding_back();
  bool has_other_networks(std::uint64_t network) const;
  void remove_link(const LinkState& link);
  void remove_files(const std::string& path);

  NetworkHostSettings settings_;
  const Log& log_;
  std::string dnsmasq_;
  std::string nft_;
  mutable std::mutex mutex_;  // held during each call
};

}  // namespace hum
