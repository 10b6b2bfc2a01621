// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_net.h"

using namespace guest;

namespace {

constinit VirtioNet net{};
constexpr std::uint32_t size = 256;  // of a receive buffer
constinit volatile std::uint8_t frame[1600]{};

void expect(std::uint32_t frame_bytes) {
  const std::uint32_t bytes = VirtioNet::header_size + frame_bytes;
  const std::uint32_t buffers = (bytes + size - 1) / size;
  check(2, net.send(frame, frame_bytes), "transmission");
  for (std::uint32_t i = 0; i < buffers; ++i) {
    check(3, net.receive(), "each buffer");
    if (i == 0) check(4, net.received.header().buffers == buffers, "number of buffers");
    const std::uint32_t before = i * size;
    const std::uint32_t here = i + 1 == buffers ? bytes - before : size;
    check(5, net.received.size == here, "all but the last are full");
    for (std::uint32_t k = i == 0 ? VirtioNet::header_size : 0; k < here; ++k)
      check(6, net.received.data[k] == frame[before + k - VirtioNet::header_size], "content");
    net.recycle();
  }
}

}  // namespace

// With MRG_RXBUF a frame goes into as many receive buffers as it needs, and the first tells how many (virtio
// 1.2, 5.1.6.3.2, 5.1.6.4).
std::uint32_t guest_main(const BootInfo& boot) {
  check(1, net.open(boot, VirtioNet::mrg_rxbuf, size), "interface");
  check(7, (net.device->features() & VirtioNet::mrg_rxbuf) != 0, "feature");
  for (std::uint32_t i = 0; i < sizeof(frame); ++i) frame[i] = static_cast<std::uint8_t>(i ^ (i >> 8));
  expect(size - VirtioNet::header_size);
  expect(size - VirtioNet::header_size + 1);
  expect(3 * size - VirtioNet::header_size);
  for (unsigned round = 0; round < 4; ++round) expect(1500);  // more buffers than there are, together
  expect(60);
  return 0;
}
