// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_passt.h"

#include "devices/net/user_backend.h"
#include "devices/net/user_host.h"
#include "vmm/base/unix_address.h"

namespace hum {

std::vector<std::string> passt_command(const PasstPlan& plan) {
  if (const auto obstacle = user_network_obstacle("network")) throw ConfigError(*obstacle);
  UnixAddress::of("network.socket", plan.socket);
  for (const PublishedPort& port : plan.ports) check_port_is_free("publish", port);
  std::vector<std::string> words = {find_passt(), "--foreground", "--quiet", "--one-off",
                                    "--socket",   plan.socket,    "--pid",   plan.pid_file};
  const std::vector<std::string> more =
      passt_arguments({.ports = plan.ports, .mtu = {}, .program = {}}, guest_name_servers().replaced);
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace hum
