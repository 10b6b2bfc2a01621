// SPDX-License-Identifier: Apache-2.0
#include "devices/net/user_host.h"

#include <arpa/inet.h>
#include <net/route.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <system_error>

namespace hum {
namespace {

constexpr unsigned long route_up = RTF_UP;
constexpr unsigned long route_refuses = RTF_REJECT;

bool has_ipv4_route(const std::string& root) {
  std::ifstream table(root + "/proc/thread-self/net/route");
  std::string line;
  std::getline(table, line);  // the names of the columns
  while (std::getline(table, line)) {
    std::istringstream words(line);
    std::string interface, destination, gateway, mask;
    unsigned long flags = 0, skipped = 0;
    words >> interface >> destination >> gateway >> std::hex >> flags >> std::dec >> skipped >> skipped >>
        skipped >> mask;
    if (destination == "00000000" && mask == "00000000" && (flags & route_up) != 0 &&
        (flags & route_refuses) == 0)
      return true;
  }
  return false;
}

bool has_ipv6_route(const std::string& root) {
  std::ifstream table(root + "/proc/thread-self/net/ipv6_route");
  const std::string nothing(32, '0');
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string destination, prefix, source, source_prefix, gateway, metric, references, uses, interface;
    unsigned long flags = 0;
    words >> destination >> prefix >> source >> source_prefix >> gateway >> metric >> references >> uses >>
        std::hex >> flags >> interface;
    if (destination == nothing && prefix == "00" && (flags & route_up) != 0 && (flags & route_refuses) == 0 &&
        interface != "lo")
      return true;
  }
  return false;
}

std::vector<std::string> name_servers_of(const std::string& path) {
  std::vector<std::string> servers;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key, address;
    if (words >> key >> address && key == "nameserver") servers.push_back(address);
  }
  return servers;
}

// Whether a guest reaches the address by way of this host: it belongs to no interface, and is not the
// host's own.
bool is_reachable(const std::string& address) {
  in_addr ipv4{};
  if (::inet_pton(AF_INET, address.c_str(), &ipv4) == 1) return ntohl(ipv4.s_addr) >> 24 != IN_LOOPBACKNET;
  in6_addr ipv6{};
  return ::inet_pton(AF_INET6, address.c_str(), &ipv6) == 1 && !IN6_IS_ADDR_LOOPBACK(&ipv6) &&
         !IN6_IS_ADDR_LINKLOCAL(&ipv6);
}

}  // namespace

std::string find_passt() {
  const char* variable = std::getenv("PATH");
  std::istringstream folders(variable != nullptr ? variable : "/usr/bin:/bin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string path = folder + "/passt";
    std::error_code unknown;
    if (path.starts_with('/') && std::filesystem::is_regular_file(path, unknown) &&
        ::access(path.c_str(), X_OK) == 0)
      return path;
  }
  return {};
}

bool has_default_route(const std::string& root) {
  return has_ipv4_route(root) || has_ipv6_route(root);
}

NameServers guest_name_servers(const std::string& root) {
  const std::vector<std::string> named = name_servers_of(root + "/etc/resolv.conf");
  if (std::any_of(named.begin(), named.end(), is_reachable)) return {};
  NameServers found;
  for (const std::string& behind : name_servers_of(root + "/run/systemd/resolve/resolv.conf"))
    if (is_reachable(behind)) found.replaced.push_back(behind);
  found.unreachable = found.replaced.empty();
  return found;
}

}  // namespace hum
