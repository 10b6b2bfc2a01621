// SPDX-License-Identifier: Apache-2.0
#include "guest-tests/runtime/console.h"
#include "guest-tests/runtime/virtio_net.h"

using namespace guest;

namespace {

constinit VirtioNet net{};
constinit volatile std::uint8_t frame[4000]{};

// Ethernet, IPv4 of 20 bytes, TCP of 20 bytes; checksums are the receiver's business.
constexpr std::uint16_t tcp_at = 34;
constexpr std::uint16_t tcp_checksum = 16;
constexpr std::uint16_t segment = 1400;

void write_frame() {
  constexpr std::uint8_t head[] = {0x45, 0, 3986 >> 8, 3986 & 0xff, 0, 0, 0, 0, 64, 6};
  frame[12] = 8;
  for (std::uint32_t i = 0; i < sizeof(head); ++i) frame[14 + i] = head[i];
  frame[tcp_at + 12] = 5 << 4;
}

}  // namespace

// A frame with a checksum and segments yet to be made (virtio 1.2, 5.1.6.2) reaches a receiver that has
// agreed to that with a header that tells what is to be done.
std::uint32_t guest_main(const BootInfo& boot) {
  constexpr std::uint64_t send = VirtioNet::csum | VirtioNet::host_tso4;
  constexpr std::uint64_t receive = VirtioNet::guest_csum | VirtioNet::guest_tso4 | VirtioNet::mrg_rxbuf;
  check(1, net.open(boot, send | receive), "interface");
  check(2, (net.device->features() & (send | receive)) == (send | receive), "features");
  write_frame();
  net.header = {
      VirtioNet::Header::needs_csum, VirtioNet::Header::tcp4, tcp_at + 20, segment, tcp_at, tcp_checksum, 0};
  check(3, net.send(frame, sizeof(frame)), "transmission");
  check(4, net.receive(), "the first buffer");
  const VirtioNet::Header header = net.received.header();
  check(5, (header.flags & VirtioNet::Header::needs_csum) != 0, "the checksum is to be made");
  check(6, header.csum_start == tcp_at && header.csum_offset == tcp_checksum, "place of the checksum");
  check(7, header.gso_type == VirtioNet::Header::tcp4 && header.gso_size == segment, "segments");
  check(8, header.buffers == 2 && net.received.size == VirtioNet::buffer_size, "two buffers");
  net.recycle();
  check(9,
        net.receive() && net.received.size == VirtioNet::header_size + sizeof(frame) - VirtioNet::buffer_size,
        "the second buffer");
  net.recycle();

  // Without the receiver's consent it does not come.
  check(10, net.start(send), "reset");
  net.header = {
      VirtioNet::Header::needs_csum, VirtioNet::Header::tcp4, tcp_at + 20, segment, tcp_at, tcp_checksum, 0};
  check(11, net.send(frame, sizeof(frame)), "transmission");
  net.header = {};
  check(12, net.round_trip(60, 7), "the next frame comes first");
  return 0;
}
