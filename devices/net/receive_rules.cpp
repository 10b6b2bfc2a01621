// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "devices/net/net_path.h"

namespace hum {

// Virtio 1.2, 5.1.6.5.1 and 5.1.6.5.2. "No" outweighs all but promiscuous.
bool ReceiveRules::wants(const MacAddress& destination) const {
  if (promiscuous) return true;
  const auto has = [&](const std::vector<MacAddress>& table) {
    return std::find(table.begin(), table.end(), destination) != table.end();
  };
  if (destination.is_broadcast()) return !no_broadcast;
  if (destination.is_multicast()) return !no_multicast && (all_multicast || has(multicast));
  return !no_unicast && (all_unicast || destination == own || has(unicast));
}

}  // namespace hum
