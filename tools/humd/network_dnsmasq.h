// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tools/humd/network_files.h"
#include "tools/humd/network_spec.h"
#include "vmm/base/fd.h"

namespace hum {

// The name servers' and address servers' configuration: dnsmasq(8)'s files. folder: where they are.
std::string dnsmasq_config(const NetworkSpec& spec, const std::string& folder, const std::string& user,
                           const std::string& group);
// Of the VMs: for dhcp-hostsfile and addn-hosts.
std::string dnsmasq_leases(const NetworkSpec& spec, std::span<const Lease> leases);
std::string dnsmasq_names(const NetworkSpec& spec, std::span<const Lease> leases);

// The dnsmasq of one network: a process that is nobody's child, outlives this program and is found again by
// its files. It is never signalled before it was seen to be the one: a pidfd is taken first, then its program
// and its command line, which has the path of our configuration, are looked at. Everything throws HostError.
class NetworkDnsmasq {
 public:
  // program: a path. folder: of that network, there already.
  NetworkDnsmasq(std::string program, std::string folder, ChangeHook before_change);

  // Makes it serve these; the address is on the bridge already. One that runs learns of what is new; it is
  // started anew where it has to forget something.
  void ensure(const NetworkSpec& spec, std::span<const Lease> leases);
  // Nothing happens where none runs.
  void stop();

 private:
  std::string file(const std::string& name) const { return folder_ + "/" + name; }
  Fd seen_as_ours(pid_t pid) const;
  Fd noted() const;
  std::vector<Fd> all() const;

  std::string program_;
  std::string folder_;
  ChangeHook before_change_;
};

}  // namespace hum
