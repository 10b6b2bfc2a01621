// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_net.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit VirtioNet net{};
constinit volatile std::uint8_t answer = 0;

// A command with so much of its header, and an answer of this size; the bytes that were written.
std::uint32_t send(std::uint32_t header_size, std::uint32_t answer_size) {
  static constinit volatile std::uint8_t header[2] = {VirtioNet::class_rx, 0};
  const VirtioBuffer parts[] = {{header, header_size, false}, {&answer, answer_size, true}};
  answer = VirtioNet::unanswered;
  std::uint32_t written = 99;
  check(1, net.device->request(net.control_index, net.control, parts, 2, written), "it is given back");
  return written;
}

}  // namespace

// Commands cut short are answered with an error, those without room for an answer given back (virtio 1.2,
// 5.1.6.5); the interface goes on.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint64_t features =
      VirtioNet::has_mac | VirtioNet::ctrl_vq | VirtioNet::ctrl_rx | VirtioNet::ctrl_mac_addr | VirtioNet::mq;
  open_bystander(boot);
  check(2, net.open(boot, features), "interface");
  for (std::uint32_t size = 0; size <= 2; ++size) {
    check(3, send(size, 1) == 1 && answer == VirtioNet::error, "a short command");
    check(4, send(size, 0) == 0, "no room for an answer");
  }

  static constinit volatile std::uint8_t zeros[64]{};
  for (std::uint32_t size = 0; size < 6; ++size)
    check(5, net.command(VirtioNet::class_mac, 1, zeros, size) == VirtioNet::error, "a short MAC");
  for (std::uint32_t size = 0; size < 2; ++size)
    check(6, net.command(VirtioNet::class_mq, 0, zeros, size) == VirtioNet::error, "a short number");
  for (std::uint32_t size = 0; size < 8; ++size)
    check(7, net.command(VirtioNet::class_mac, 0, zeros, size) == VirtioNet::error, "a short table");

  // Tables that say to be longer than they are.
  static constinit std::uint32_t table[8]{};
  for (const std::uint32_t entries : {1u, 5u, 0x2aaaaaabu, 0xffffffffu}) {
    table[0] = entries;
    check(8, net.command(VirtioNet::class_mac, 0, table, 8) == VirtioNet::error, "a table that lies");
    table[0] = 0;
    table[1] = entries;
    check(9, net.command(VirtioNet::class_mac, 0, table, 8) == VirtioNet::error, "a second one that lies");
  }
  check(10, net.round_trip(60, 1), "frames go on");
  expect_bystander();
  return 0;
}
