// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_net.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit VirtioNet net{};
constinit VirtioBuffer pieces[VirtioNet::entries]{};
constexpr std::uint64_t memory = 16 << 20;  // what is there does not matter

// A chain whose pieces are of this size.
std::uint16_t chain_of(std::uint32_t size, unsigned count) {
  for (unsigned i = 0; i < count; ++i) pieces[i] = {reinterpret_cast<const void*>(memory), size, false};
  return net.pair[0].transmit.place(pieces, count);
}

}  // namespace

// Frames longer than any are given back and not sent, however long their chain is.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint32_t most = VirtioNet::header_size + 65535 + 18;
  open_bystander(boot);
  check(1, net.open(boot), "interface");
  for (const std::uint32_t size : {most + 1, 1u << 20, 64u << 20}) {
    check(2, net.send_chain(chain_of(size, 1)), "one piece");
    check(3, net.send_chain(chain_of(size, VirtioNet::entries)), "as many as there can be");
    check(4, net.round_trip(60, 1), "the next frame comes first");
  }
  check(5, net.send_chain(chain_of(1, VirtioNet::entries)) && net.receive(), "tiny pieces are no harm");
  check(6, net.received.size == VirtioNet::entries, "size");
  net.recycle();
  check(7, net.send_chain(chain_of(most, 1)), "the largest frame finds no room here");
  check(8, net.round_trip(60, 2), "the next frame comes first");
  expect_bystander();
  return 0;
}
