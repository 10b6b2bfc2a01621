// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_net.h"

using namespace guest;

namespace {

constinit VirtioNet net{};

std::uint8_t use_pairs(std::uint16_t count) {
  return net.command(VirtioNet::class_mq, 0, &count, sizeof(count));
}

}  // namespace

// Several pairs of queues (virtio 1.2, 5.1.6.5.5): one is in use until the driver says otherwise, and each
// has its own frames. Without MQ the control queue has another number (5.1.2). For queues=2.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint64_t features = VirtioNet::ctrl_vq | VirtioNet::mq;
  check(1, net.open(boot, features), "interface");
  check(2, (net.device->features() & features) == features && net.control_index == 4, "features");
  check(3, net.round_trip(60, 1, 0), "the first pair");
  check(4, use_pairs(2) == VirtioNet::ok, "two pairs");
  for (std::uint8_t i = 0; i < 5; ++i) {
    check(5, net.round_trip(60, i, 1), "the second pair");
    check(6, net.round_trip(100, i, 0), "the first pair");
  }
  check(7, !net.pair[0].receive.has_used() && !net.pair[1].receive.has_used(), "no frame too many");
  for (const std::uint16_t count : {std::uint16_t{0}, std::uint16_t{3}, std::uint16_t{0x8001}})
    check(8, use_pairs(count) == VirtioNet::error, "a number of pairs that there is not");
  check(9, net.round_trip(60, 9, 1), "the second pair still");
  check(10, use_pairs(1) == VirtioNet::ok && net.round_trip(60, 10, 0), "one pair");

  check(11, net.start(VirtioNet::ctrl_vq) && net.control_index == 2, "without MQ");
  check(12, net.round_trip(60, 11, 0), "a frame");
  check(13, use_pairs(1) == VirtioNet::error, "the command is answered where the driver expects it");
  return 0;
}
