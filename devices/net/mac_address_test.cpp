// SPDX-License-Identifier: Apache-2.0
#include "devices/net/mac_address.h"

#include <set>

#include "devices/virtio_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

TEST_CASE("a MAC address is read as it is written") {
  CHECK(parse_mac_address("net.mac", "52:54:00:12:34:5f").text() == "52:54:00:12:34:5f");
  CHECK(parse_mac_address("net.mac", "AA-BB-CC-DD-EE-0F").text() == "aa:bb:cc:dd:ee:0f");
}

TEST_CASE("what no interface can have as its address is refused") {
  for (const char* text : {"", "52:54:00:12:34:5", "52:54:00:12:34:567", "52:54:00:12:34:5g",
                           "52:54:00:12:34-", "5254:00:12:34:56:", "+2:54:00:12:34:56", "52 54 00 12 34 56",
                           "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"}) {
    CAPTURE(text);
    const std::string message = testing::config_error_of([&] { parse_mac_address("net.mac", text); });
    CHECK(testing::contains(message, "net.mac"));
    CHECK(testing::contains(message, "52:54:00:12:34:56"));
  }
}

TEST_CASE("derived addresses are local, unicast, stable, and differ") {
  std::set<std::string> seen;
  for (int number = 0; number < 1000; ++number) {
    const MacAddress address = derived_mac_address("vm" + std::to_string(number) + "/net0");
    CHECK((address.bytes[0] & 3) == 2);
    seen.insert(address.text());
  }
  CHECK(seen.size() == 1000);
  CHECK(derived_mac_address("vm/net0") == derived_mac_address("vm/net0"));
}

}  // namespace
}  // namespace hum
