// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/network_passt.h"

#include "devices/net/user_backend.h"
#include "devices/net/user_host.h"

namespace hum {

std::vector<std::string> passt_command(int socket, const std::string& ports) {
  if (const auto obstacle = user_network_obstacle("network")) throw ConfigError(*obstacle);
  std::vector<PublishedPort> published;
  if (!ports.empty()) published = parse_published_ports("networks.ports", ports);
  for (const PublishedPort& port : published) check_port_is_free("networks.ports", port);
  std::vector<std::string> words = {find_passt(), "--foreground", "--quiet", "--fd", std::to_string(socket)};
  const std::vector<std::string> more = passt_arguments(
      {.ports = std::move(published), .mtu = {}, .program = {}}, guest_name_servers().replaced);
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace hum
