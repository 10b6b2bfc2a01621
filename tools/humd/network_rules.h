// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "tools/humd/network_spec.h"

namespace hum {

// A network's tables of nftables, of the families inet and bridge, have this name.
std::string rules_table(const std::string& instance, std::uint64_t network);

// What nft is told: one transaction that puts the network's tables in the place of what there is of them.
//  - What VMs send has the MAC and the IPv4 address that they were given; other protocols, and what is sent
//  by
//    a tap without a lease, are dropped.
//  - Out of the network go its VMs' packets with this host's address, if it has nat; into it come answers and
//    what is for a published port, and nothing else: so networks do not reach each other.
//  - A published port is redirected wherever the packet comes from, also from this host and from the network.
std::string rules_text(const std::string& table, const NetworkSpec& spec, std::span<const Lease> leases);

// One transaction that removes them, if they are there.
std::string rules_removal_text(const std::string& table);

}  // namespace hum
