// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_net.h"

using namespace guest;

namespace {

constinit VirtioNet net{};
constinit volatile std::uint8_t joined[VirtioNet::header_size + 100]{};

bool holds_joined() {
  for (std::uint32_t i = 0; i < 100; ++i)
    if (net.received.frame()[i] != joined[VirtioNet::header_size + i]) return false;
  return net.received.size == sizeof(joined);
}

}  // namespace

// Frames are sent and received whole and in order, however they are cut (virtio 1.2, 5.1.6), and the header
// of a frame that needs nothing says so.
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, net.open(boot, VirtioNet::has_mac), "interface");
  std::uint8_t seed = 1;
  for (const std::uint32_t size : std::initializer_list<std::uint32_t>{14, 60, 61, 1514, 1600})
    check(2, net.round_trip(size, seed++), "a frame comes back");
  const VirtioNet::Header header = net.received.header();
  check(3, header.flags == 0 && header.gso_type == 0 && header.gso_size == 0, "nothing is to be done");
  check(4, header.buffers == 1, "one buffer");

  // Header and frame in one piece, and in many.
  for (std::uint32_t i = 0; i < 100; ++i)
    joined[VirtioNet::header_size + i] = static_cast<std::uint8_t>(i * 3);
  VirtioQueue& queue = net.pair[0].transmit;
  const VirtioBuffer one{joined, sizeof(joined), false};
  check(5, net.send_chain(queue.place(&one, 1)) && net.receive() && holds_joined(), "one piece");
  net.recycle();
  const VirtioBuffer many[] = {{joined, 1, false},       {joined + 1, 10, false}, {joined + 11, 2, false},
                               {joined + 13, 50, false}, {joined + 63, 0, false}, {joined + 63, 49, false}};
  check(6, net.send_chain(queue.place(many, 6)) && net.receive() && holds_joined(), "many pieces");
  net.recycle();

  // Several at a time.
  constexpr std::uint32_t count = 10;
  static constinit volatile std::uint8_t frames[count][64]{};
  for (std::uint32_t i = 0; i < count; ++i) {
    frames[i][20] = static_cast<std::uint8_t>(i);
    const VirtioBuffer parts[] = {{&net.header, VirtioNet::header_size, false},
                                  {frames[i], 60 + i % 4, false}};
    queue.add(parts, 2);
  }
  net.device->notify(1);
  for (std::uint32_t i = 0; i < count; ++i) {
    check(7, net.receive() && net.received.size == VirtioNet::header_size + 60 + i % 4, "each frame");
    check(8, net.received.frame()[20] == i, "in order");
    net.recycle();
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    check(9, wait_until([&] { return queue.has_used(); }, 3) && queue.take().size == 0, "given back");
  }
  return 0;
}
