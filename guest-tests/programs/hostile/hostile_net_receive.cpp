// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_net.h"
#include "guest-tests/runtime/virtio_victim.h"

using namespace guest;

namespace {

constinit VirtioNet net{};
constinit volatile std::uint8_t frame[1500]{};

}  // namespace

// Receive buffers too small for a frame, for its header, or that cannot be written: the frame is lost, and
// those that fit arrive.
std::uint32_t guest_main(const BootInfo& boot) {
  open_bystander(boot);
  check(1, net.open(boot, 0, 100), "interface");
  check(2, net.send(frame, sizeof(frame)), "a frame larger than a buffer");
  check(3, net.round_trip(60, 1), "one that fits comes first");

  // 16 of 64 bytes.
  check(4, net.start(VirtioNet::mrg_rxbuf, 64), "reset");
  check(5, net.send(frame, sizeof(frame)), "a frame larger than all buffers");
  check(6, net.round_trip(52, 2), "one that fits comes first");

  // Of one byte: a header in pieces, and only with many of them a frame.
  for (const std::uint64_t features : {std::uint64_t{0}, VirtioNet::mrg_rxbuf}) {
    check(7, net.start(features, 1), "reset");
    check(8, net.send(frame, 60), "a frame");
    check(9, never([] { return net.pair[0].receive.has_used(); }), "nothing is received");
    expect_bystander();
  }

  // To be read only, or of nothing.
  for (const bool nothing : {false, true}) {
    check(10, net.prepare(0), "reset");
    const VirtioBuffer buffer{frame, nothing ? 0u : 1500u, nothing};
    for (unsigned i = 0; i < 4; ++i) net.pair[0].receive.add(&buffer, 1);
    net.device->finish();
    check(11, net.send(frame, 60), "a frame");
    check(12, never([] { return net.pair[0].receive.has_used(); }), "nothing is received");
    expect_bystander();
  }
  for (const volatile std::uint8_t& each : frame) check(13, each == 0, "nothing is written");
  check(14, net.start(0) && net.round_trip(60, 3), "after a reset frames go on");
  return 0;
}
