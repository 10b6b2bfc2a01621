// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_net.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit VirtioNet net{};
constinit volatile std::uint8_t bytes[100]{};

}  // namespace

// Chains too short for a header and an Ethernet header, and those with nothing to read, are given back and
// nothing is sent.
std::uint32_t guest_main(const BootInfo& boot) {
  open_bystander(boot);
  check(1, net.open(boot), "interface");
  VirtioQueue& queue = net.pair[0].transmit;
  for (const std::uint32_t size : std::initializer_list<std::uint32_t>{0, 1, 11, 12, 13, 25}) {
    const VirtioBuffer buffer{bytes, size, false};
    check(2, net.send_chain(queue.place(&buffer, 1)), "it is given back");
  }
  const VirtioBuffer writable{bytes, sizeof(bytes), true};
  check(3, net.send_chain(queue.place(&writable, 1)), "nothing to read");
  const VirtioBuffer mixed[] = {{&net.header, VirtioNet::header_size, false}, {bytes, sizeof(bytes), true}};
  check(4, net.send_chain(queue.place(mixed, 2)), "a frame that is not to be read");
  for (const volatile std::uint8_t& each : bytes) check(5, each == 0, "nothing is written");
  check(6, net.round_trip(14, 1), "the next frame comes first");
  expect_bystander();
  return 0;
}
