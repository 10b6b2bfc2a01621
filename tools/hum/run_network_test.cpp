// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/run_network.h"

#include <cstdlib>
#include <string>

#include "tools/hum/run_command.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

std::string text_of(const RunNetwork& network) {
  std::string text;
  for (const DeviceConfig& device : network.devices)
    text += (text.empty() ? "" : " ") + device.kind + ":" + device.options;
  return text;
}

RunNetwork network_of(std::vector<std::string> networks, std::vector<std::string> publish = {},
                      bool linux_guest = true) {
  RunOptions options;
  options.networks = std::move(networks);
  options.publish = std::move(publish);
  return choose_network(options, linux_guest);
}

std::string error_of(std::vector<std::string> networks, std::vector<std::string> publish = {}) {
  try {
    network_of(std::move(networks), std::move(publish));
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

// As long as it lives no program is found.
class EmptyPath {
 public:
  EmptyPath() : before_(std::getenv("PATH")) { ::setenv("PATH", "/nowhere", 1); }
  ~EmptyPath() { ::setenv("PATH", before_.c_str(), 1); }
  EmptyPath(const EmptyPath&) = delete;
  EmptyPath& operator=(const EmptyPath&) = delete;

 private:
  std::string before_;
};

}  // namespace

TEST_CASE("networks become devices, each of its kind") {
  const RunNetwork network =
      network_of({"tap=tap0,vhost=on", "vhost-user=/run/net.sock,mac=52:54:00:12:34:56"});
  CHECK(text_of(network) == "net:tap=tap0,vhost=on vhost-user-net:/run/net.sock,mac=52:54:00:12:34:56");
  CHECK_FALSE(network.has_dhcp);
  CHECK_FALSE(network.dispensable);
  CHECK(network_of({"user"}).has_dhcp);
  CHECK(network_of({"mtu=1400"}).has_dhcp);  // the user's own is the default
  for (const char* other :
       {"mtu=1400,bridge=br0", "tap-fd=3+4", "macvtap=a", "socket=/s", "loopback", "mode=loopback"})
    CHECK_FALSE(network_of({other}).has_dhcp);
}

TEST_CASE("none is no network, and stands alone") {
  CHECK(network_of({"none"}).devices.empty());
  CHECK(error_of({"none", "user"}).find("net 'none': stands beside other networks") == 0);
}

TEST_CASE("published ports go to the first user network, which they bring where no network is named") {
  CHECK(text_of(network_of({"tap=a", "user,mtu=1400", "user"}, {"80:80", "[::1]:53:53/udp"})) ==
        "net:tap=a net:user,mtu=1400,publish=80:80+[::1]:53:53/udp net:user");
  const RunNetwork brought = network_of({}, {"8080:80"}, GENERATE(true, false));
  CHECK(text_of(brought) == "net:user,publish=8080:80");
  CHECK_FALSE(brought.dispensable);
  CHECK(error_of({"tap=a"}, {"80:80"}).find("publish '80:80': only a user network") == 0);
  CHECK(error_of({"none"}, {"80:80"}).find("add --net user") != std::string::npos);
}

TEST_CASE("a guest that is not Linux, or has a network device already, gets none by itself") {
  CHECK(network_of({}, {}, false).devices.empty());
  RunOptions options;
  for (const char* device : {"net,tap=a", "vhost-user-net,/run/net.sock", "net"}) {
    options.devices = {"rng", device};
    CHECK(choose_network(options, true).devices.empty());
  }
}

TEST_CASE("without passt a Linux guest does without a network unless one was asked for") {
  const EmptyPath no_passt;
  CHECK(network_of({}).devices.empty());
  CHECK(text_of(network_of({"user"})) == "net:user");  // the device says what is wrong
  CHECK(text_of(network_of({}, {"80:80"})) == "net:user,publish=80:80");
}

}  // namespace hum
