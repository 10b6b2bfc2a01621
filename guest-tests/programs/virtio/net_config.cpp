// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_net.h"

using namespace guest;

namespace {

constinit VirtioNet net{};

constexpr std::uint8_t mac[] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
constexpr std::uint32_t behind = 24;  // of the structure

}  // namespace

// A network interface's features and configuration (virtio 1.2, 5.1.3 and 5.1.4): MAC, MTU, pairs of queues,
// link status, none of which the driver can write. For mac=52:54:00:12:34:56,mtu=1400,queues=2.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint64_t expected = VirtioNet::has_mac | VirtioNet::has_mtu | VirtioNet::has_status |
                                     VirtioNet::mrg_rxbuf | VirtioNet::ctrl_vq | VirtioNet::mq |
                                     VirtioNet::ctrl_mac_addr;
  check(1, net.open(boot, expected), "interface");
  VirtioDevice& device = *net.device;
  check(2, (device.features() & expected) == expected, "features");
  for (std::uint32_t i = 0; i < sizeof(mac); ++i) {
    check(3, device.config<std::uint8_t>(i) == mac[i], "MAC");
    *reinterpret_cast<volatile std::uint8_t*>(device.config_address() + i) = 0xee;
    check(4, device.config<std::uint8_t>(i) == mac[i], "the MAC is not written here");
  }
  check(5, device.config<std::uint16_t>(VirtioNet::status_at) == 1, "the link is up");
  check(6, device.config<std::uint16_t>(VirtioNet::pairs_at) == 2, "pairs of queues");
  check(7, device.config<std::uint16_t>(VirtioNet::mtu_at) == 1400, "MTU");
  check(8, device.config<std::uint8_t>(behind) == 0 && device.config<std::uint32_t>(behind + 4) == 0,
        "nothing behind the end");
  check(9, device.queue_size(4) != 0 && device.queue_size(5) == 0, "the control queue is the last");
  return 0;
}
