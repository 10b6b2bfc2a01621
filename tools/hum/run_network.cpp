// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/run_network.h"

#include <algorithm>
#include <cstdio>
#include <string_view>

#include "devices/net/user_backend.h"
#include "tools/hum/run_command.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::string_view vhost_user = "vhost-user=";

// Whether the specification names another kind of network than the user's own.
bool is_user_network(const std::string& spec) {
  if (spec.starts_with(vhost_user)) return false;
  for (std::size_t begin = 0; begin < spec.size();) {
    const std::size_t end = std::min(spec.find(',', begin), spec.size());
    const std::string_view word = std::string_view(spec).substr(begin, end - begin);
    for (const std::string_view other :
         {"tap=", "tap-fd=", "bridge=", "macvtap=", "socket=", "socket-fd=", "loopback", "mode=loopback"})
      if (word.starts_with(other)) return false;
    begin = end + 1;
  }
  return true;
}

// A first word that is neither a kind nor KEY=VALUE is most likely the name of an interface.
void check_kind(const std::string& spec) {
  const std::string word = spec.substr(0, spec.find(','));
  constexpr std::string_view bare[] = {"user", "loopback", "vhost", "link"};
  if (word.find('=') != std::string::npos ||
      std::find(std::begin(bare), std::end(bare), word) != std::end(bare))
    return;
  throw ConfigError(
      "net", word, "no kind of network",
      "give user, tap=NAME, tap-fd=N, bridge=NAME, macvtap=NAME, socket=PATH, vhost-user=SOCKET, or none "
      "alone");
}

DeviceConfig device_of(const std::string& spec) {
  check_kind(spec);
  if (spec.starts_with(vhost_user)) return {"vhost-user-net", spec.substr(vhost_user.size())};
  return {"net", spec};
}

// Among those that are given as they are.
bool has_network_device(const RunOptions& options) {
  return std::any_of(options.devices.begin(), options.devices.end(), [](const std::string& device) {
    const std::string kind = device.substr(0, device.find(','));
    return kind == "net" || kind == "vhost-user-net";
  });
}

std::string joined(const std::vector<std::string>& ports) {
  std::string text;
  for (const std::string& port : ports) text += (text.empty() ? "" : "+") + port;
  return text;
}

}  // namespace

RunNetwork choose_network(const RunOptions& options, bool linux_guest) {
  RunNetwork network;
  std::vector<std::string> specs = options.networks;
  const bool none = std::find(specs.begin(), specs.end(), "none") != specs.end();
  if (none && specs.size() > 1)
    throw ConfigError("net", "none", "stands beside other networks", "give it alone, or leave it out");
  if (none) specs.clear();
  const bool wanted = !options.publish.empty();
  if (specs.empty() && !none && (wanted || (linux_guest && !has_network_device(options)))) {
    network.dispensable = !wanted;
    specs.emplace_back("user");
  }
  const auto user = std::find_if(specs.begin(), specs.end(), is_user_network);
  network.has_dhcp = user != specs.end();
  if (wanted) {
    if (user == specs.end())
      throw ConfigError("publish", joined(options.publish), "only a user network has published ports",
                        "add --net user");
    *user += ",publish=" + joined(options.publish);
  }
  for (const std::string& spec : specs) network.devices.push_back(device_of(spec));
  if (!network.dispensable) return network;
  if (const auto obstacle = user_network_obstacle("net")) {
    tell_of_no_network(obstacle->what());
    return {};
  }
  return network;
}

void tell_of_no_network(const std::string& reason) {
  std::fprintf(stderr, "hum: the guest has no network: %s\n", reason.c_str());
}

}  // namespace hum
