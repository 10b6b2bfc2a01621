// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_net.h"

using namespace guest;

namespace {

constinit VirtioNet net{};
constexpr std::uint8_t promiscuous = 0;
constexpr std::uint8_t no_broadcast = 5;
constexpr std::uint8_t table_set = 0;
constexpr std::uint8_t address_set = 1;
constexpr std::uint8_t on = 1;
constexpr std::uint8_t off = 0;
constexpr std::uint8_t address[] = {0x52, 0x54, 0x00, 0xaa, 0xbb, 0xcc};

std::uint8_t rx(std::uint8_t mode, const std::uint8_t& value) {
  return net.command(VirtioNet::class_rx, mode, &value, 1);
}

// Whether a frame to this destination is received.
bool reaches(const std::uint8_t (&destination)[6]) {
  static constinit volatile std::uint8_t frame[60]{};
  for (std::uint32_t i = 0; i < 6; ++i) frame[i] = destination[i];
  frame[20] = static_cast<std::uint8_t>(frame[20] + 1);
  check(20, net.send(frame, sizeof(frame)), "transmission");
  check(21, net.send(net.frame, 60) && net.receive(), "a frame to the interface");
  const bool reached = net.received.frame()[20] == frame[20] && net.received.frame()[0] == destination[0];
  net.recycle();
  if (reached) {
    check(22, net.receive(), "the other frame");
    net.recycle();
  }
  return reached;
}

// The frame that is always received.
void address_frame(const std::uint8_t (&destination)[6]) {
  for (std::uint32_t i = 0; i < 6; ++i) net.frame[i] = destination[i];
  net.frame[20] = 0;
}

}  // namespace

// Commands of a network interface (virtio 1.2, 5.1.6.5): which frames are received, the MAC, and errors for
// what does not exist.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint64_t features =
      VirtioNet::ctrl_vq | VirtioNet::ctrl_rx | VirtioNet::ctrl_mac_addr | VirtioNet::has_mac | 1ull << 20;
  check(1, net.open(boot, features), "interface");
  check(2, (net.device->features() & features) == features, "features");
  constexpr std::uint8_t stranger[] = {0x52, 0x54, 0x00, 0x99, 0x99, 0x99};
  constexpr std::uint8_t everybody[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  constexpr std::uint8_t group[] = {0x01, 0x00, 0x5e, 0x00, 0x00, 0x01};

  std::uint8_t own[6];
  for (std::uint32_t i = 0; i < 6; ++i) own[i] = net.device->config<std::uint8_t>(i);
  check(23, own[0] != 0, "a MAC from the start");
  check(3, net.command(VirtioNet::class_mac, address_set, address, 6) == VirtioNet::ok, "a MAC");
  for (std::uint32_t i = 0; i < 6; ++i)
    check(4, net.device->config<std::uint8_t>(i) == address[i], "the new MAC is told");
  address_frame(address);
  check(5, rx(promiscuous, off) == VirtioNet::ok, "no promiscuous mode");
  check(6, !reaches(stranger), "frames to others are not received");
  check(7, reaches(everybody), "broadcast is");
  check(8, rx(no_broadcast, on) == VirtioNet::ok && !reaches(everybody), "no broadcast");
  check(9, rx(no_broadcast, off) == VirtioNet::ok && reaches(everybody), "broadcast again");
  check(10, !reaches(group), "a group that is not wanted");
  // One unicast and one multicast address.
  static constinit const struct {
    std::uint32_t one = 1;
    std::uint8_t unicast[6] = {0x52, 0x54, 0x00, 0x99, 0x99, 0x99};
    std::uint16_t more[5] = {1, 0, 0x0001, 0x005e, 0x0100};
  } table;
  check(11, net.command(VirtioNet::class_mac, table_set, &table, 20) == VirtioNet::ok, "a table");
  check(12, reaches(stranger) && reaches(group), "what is in the table is received");
  check(13, rx(promiscuous, on) == VirtioNet::ok, "promiscuous mode");

  check(14, net.command(99, 0, &on, 1) == VirtioNet::error, "an unknown class");
  check(15, net.command(VirtioNet::class_rx, 77, &on, 1) == VirtioNet::error, "an unknown command");
  check(16, net.command(VirtioNet::class_mac, 77, address, 6) == VirtioNet::error, "an unknown command");
  check(17, net.round_trip(60, 3), "frames go on");
  check(18, net.start(features), "reset");
  for (std::uint32_t i = 0; i < 6; ++i)
    check(19, net.device->config<std::uint8_t>(i) == own[i], "the first MAC again");
  return 0;
}
