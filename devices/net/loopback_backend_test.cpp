// SPDX-License-Identifier: Apache-2.0
#include "devices/net/loopback_backend.h"

#include <poll.h>

#include <array>
#include <cerrno>
#include <vector>

#include "devices/net/net_wire.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace net_wire;
using Bytes = std::vector<std::byte>;
using State = FrameEndpoint::State;

Bytes frame_of(std::size_t bytes, std::uint8_t fill, const Header& header = {}) {
  Bytes frame(sizeof header + bytes, std::byte{fill});
  const auto head = bytes_of(header);
  std::copy(head.begin(), head.end(), frame.begin());
  return frame;
}

FrameEndpoint::Transfer send(FrameEndpoint& endpoint, Bytes frame) {
  const std::array<iovec, 2> pieces = {{{frame.data(), 12}, {frame.data() + 12, frame.size() - 12}}};
  return endpoint.send(pieces);
}

struct Received {
  FrameEndpoint::Transfer transfer;
  Bytes bytes;
};

Received receive(FrameEndpoint& endpoint, std::size_t room = 70000) {
  Received received{{}, Bytes(room)};
  const std::size_t half = room / 2;
  const std::array<iovec, 2> pieces = {
      {{received.bytes.data(), half}, {received.bytes.data() + half, room - half}}};
  received.transfer = endpoint.receive(pieces);
  if (received.transfer.state == State::moved) received.bytes.resize(std::min(room, received.transfer.bytes));
  return received;
}

bool readable(const FrameEndpoint& endpoint) {
  pollfd entry{.fd = endpoint.fd(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) == 1;
}

}  // namespace

TEST_CASE("frames come back in their order to the pair that sent them") {
  LoopbackBackend backend(2);
  REQUIRE(backend.pairs() == 2);
  FrameEndpoint& first = backend.endpoint(0);
  CHECK_FALSE(readable(first));
  CHECK(receive(first).transfer.state == State::wait);
  CHECK(send(first, frame_of(60, 1)).state == State::moved);
  CHECK(send(first, frame_of(65549, 2)).bytes == 65561);
  CHECK(readable(first));
  CHECK_FALSE(readable(backend.endpoint(1)));
  CHECK(receive(first).bytes == frame_of(60, 1));
  CHECK(readable(first));
  CHECK(receive(first).bytes == frame_of(65549, 2));
  CHECK(receive(first).transfer.state == State::wait);
  CHECK_FALSE(readable(first));
  CHECK(receive(backend.endpoint(1)).transfer.state == State::wait);
}

TEST_CASE("a frame longer than the buffers tells its whole length") {
  LoopbackBackend backend(1);
  FrameEndpoint& endpoint = backend.endpoint(0);
  send(endpoint, frame_of(100, 1));
  const Received received = receive(endpoint, 50);
  CHECK(received.transfer.bytes == 112);
  Bytes expected = frame_of(100, 1);
  expected.resize(50);
  CHECK(received.bytes == expected);
}

TEST_CASE("a frame that finds no room is lost, and those that wait are not") {
  LoopbackBackend backend(1);
  FrameEndpoint& endpoint = backend.endpoint(0);
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < LoopbackBackend::most_waiting; ++i)
      REQUIRE(send(endpoint, frame_of(60, static_cast<std::uint8_t>(i))).state == State::moved);
    const auto lost = send(endpoint, frame_of(60, 99));
    CHECK(lost.state == State::lost);
    CHECK(lost.error == ENOBUFS);
    for (std::size_t i = 0; i < LoopbackBackend::most_waiting; ++i)
      REQUIRE(receive(endpoint).bytes == frame_of(60, static_cast<std::uint8_t>(i)));
    CHECK(receive(endpoint).transfer.state == State::wait);
  }
}

TEST_CASE("a frame that is still to be segmented comes back with the header that says so") {
  LoopbackBackend backend(1);
  Header header;
  header.flags = header_needs_csum;
  header.gso_type = gso_tcp4;
  header.gso_size = 1400;
  header.csum_start = 34;
  send(backend.endpoint(0), frame_of(4000, 1, header));
  CHECK(receive(backend.endpoint(0)).bytes == frame_of(4000, 1, header));
  for (const std::uint64_t each : {feature_csum, feature_guest_csum, feature_host_tso4, feature_guest_tso4})
    CHECK((backend.offloads() & each) != 0);
}

}  // namespace hum
