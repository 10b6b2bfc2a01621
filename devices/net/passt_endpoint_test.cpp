// SPDX-License-Identifier: Apache-2.0
#include "devices/net/passt_endpoint.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "devices/net/net_wire.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using State = FrameEndpoint::State;
using Bytes = std::vector<std::byte>;

Bytes frame_of(std::size_t size, unsigned char fill = 0x5a) {
  return Bytes(size, std::byte{fill});
}

// A frame with the destination in its header of IPv4 or IPv6.
Bytes ip_frame(std::uint16_t type, std::initializer_list<unsigned> destination) {
  Bytes frame(60);
  store_be(std::span(frame).subspan(12, 2), type);
  std::size_t at = type == 0x0800 ? 30 : 38;
  for (const unsigned each : destination) frame[at++] = static_cast<std::byte>(each);
  return frame;
}

Bytes on_the_wire(const Bytes& frame) {
  Bytes bytes(4);
  store_be(bytes, frame.size());
  bytes.insert(bytes.end(), frame.begin(), frame.end());
  return bytes;
}

// The endpoint and what a passt would do with the other end.
class Bench {
 public:
  Bench() : endpoint([this] { ++broken; }) { endpoint.connect(); }

  void write(const Bytes& bytes) const {
    REQUIRE(::send(endpoint.process_end(), bytes.data(), bytes.size(), 0) ==
            static_cast<ssize_t>(bytes.size()));
  }
  Bytes read(std::size_t most = 1 << 20) const {
    Bytes bytes(most);
    const ssize_t count = ::recv(endpoint.process_end(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return bytes;
  }
  // What the guest receives, header included; empty: nothing.
  Bytes receive(std::size_t room = 1 << 17, std::size_t piece = 1000) {
    Bytes buffer(room, std::byte{0xee});
    std::vector<iovec> parts;
    for (std::size_t at = 0; at < room; at += piece)
      parts.push_back({buffer.data() + at, std::min(piece, room - at)});
    const auto transfer = endpoint.receive(parts);
    if (transfer.state != State::moved) return {};
    told = transfer.bytes;
    buffer.resize(std::min(told, room));
    return buffer;
  }
  // With a header of the guest's, in two pieces cut at `cut`.
  FrameEndpoint::Transfer send(const Bytes& frame, std::size_t cut = 12) {
    Bytes whole(12, std::byte{0x11});
    whole.insert(whole.end(), frame.begin(), frame.end());
    const std::array<iovec, 2> parts = {{{whole.data(), cut}, {whole.data() + cut, whole.size() - cut}}};
    return endpoint.send(parts);
  }
  bool readable() const {
    pollfd entry{endpoint.fd(), POLLIN, 0};
    return ::poll(&entry, 1, 0) == 1;
  }
  bool writable() const {
    pollfd entry{endpoint.fd(), POLLOUT, 0};
    return ::poll(&entry, 1, 0) == 1;
  }

  int broken = 0;
  std::size_t told = 0;  // by the last receive
  PasstEndpoint endpoint;
};

}  // namespace

TEST_CASE("a frame from passt comes behind a header of zeroes, in as many buffers as it takes") {
  Bench bench;
  CHECK(bench.receive().empty());
  bench.write(on_the_wire(frame_of(1514)));
  CHECK(bench.readable());
  const Bytes got = bench.receive(1 << 17, GENERATE(as<std::size_t>(), 5, 12, 1000, 1 << 17));
  REQUIRE(got.size() == 12 + 1514);
  CHECK(Bytes(got.begin(), got.begin() + 12) == Bytes(12));
  CHECK(Bytes(got.begin() + 12, got.end()) == frame_of(1514));
  CHECK(bench.receive().empty());
  CHECK_FALSE(bench.readable());
}

TEST_CASE("frames that come in one read are given one by one, and those cut anywhere once they are whole") {
  Bench bench;
  Bytes stream;
  for (unsigned char number = 1; number <= 20; ++number) {
    const Bytes one = on_the_wire(frame_of(100u * number, number));
    stream.insert(stream.end(), one.begin(), one.end());
  }
  const std::size_t step = GENERATE(as<std::size_t>(), 1, 3, 4, 5, 999, 1 << 20);
  unsigned char next = 1;
  for (std::size_t at = 0; at < stream.size(); at += step) {
    const auto begin = stream.begin() + static_cast<std::ptrdiff_t>(at);
    bench.write(Bytes(begin, begin + static_cast<std::ptrdiff_t>(std::min(step, stream.size() - at))));
    for (Bytes got = bench.receive(); !got.empty(); got = bench.receive(), ++next) {
      REQUIRE(got.size() == 12 + 100u * next);
      REQUIRE(got.back() == std::byte{next});
    }
  }
  CHECK(next == 21);
}

TEST_CASE("the largest frames pass, many times, both ways") {
  Bench bench;
  for (int i = 0; i < 50; ++i) {
    const Bytes frame = frame_of(net_wire::most_frame_bytes, static_cast<unsigned char>(i));
    bench.write(on_the_wire(frame));
    const Bytes got = bench.receive();
    REQUIRE(got.size() == 12 + frame.size());
    CHECK(got.back() == frame.back());
    REQUIRE(bench.send(frame).state == State::moved);
    CHECK((bench.read() == on_the_wire(frame)));
  }
}

TEST_CASE("a frame with more than the buffers hold is cut off and told with its size") {
  Bench bench;
  bench.write(on_the_wire(frame_of(500)));
  bench.write(on_the_wire(frame_of(20, 1)));
  CHECK(bench.receive(100).size() == 100);
  CHECK(bench.told == 512);
  CHECK(bench.receive().size() == 32);
}

TEST_CASE("a length that no frame has ends the stream, and the smallest and the largest do not") {
  Bench bench;
  for (const std::size_t fine : {net_wire::ethernet_header_bytes, net_wire::most_frame_bytes}) {
    bench.write(on_the_wire(frame_of(fine)));
    CHECK(bench.receive().size() == 12 + fine);
  }
  Bytes length(4);
  store_be(length, GENERATE(as<std::uint64_t>(), 0, 13, net_wire::most_frame_bytes + 1, 0xffffffff));
  bench.write(length);
  CHECK(bench.receive().empty());
  CHECK(bench.broken == 1);
  CHECK_FALSE(bench.endpoint.connected());
  bench.write(frame_of(1000));
  CHECK(bench.receive().empty());  // thrown away: nobody is woken for it
  CHECK_FALSE(bench.readable());
  CHECK(bench.broken == 1);
  CHECK(bench.send(frame_of(60)).state == State::lost);
}

TEST_CASE(
    "a frame of the guest goes out behind its length, without its header, wherever its buffers are cut") {
  Bench bench;
  const Bytes frame = frame_of(GENERATE(as<std::size_t>(), 14, 53, 54, 55, 1514));
  const std::size_t cut = GENERATE(as<std::size_t>(), 0, 5, 12, 13, 20);
  const auto transfer = bench.send(frame, cut);
  CHECK(transfer.state == State::moved);
  CHECK(transfer.bytes == 12 + frame.size());
  CHECK(bench.read() == on_the_wire(frame));
  CHECK(bench.endpoint.flush());
}

TEST_CASE("a frame that is too short or too long for one is lost") {
  Bench bench;
  CHECK(bench.send(frame_of(13)).state == State::lost);
  CHECK(bench.send(frame_of(net_wire::most_frame_bytes + 1)).error == EMSGSIZE);
  CHECK(bench.read().empty());
}

TEST_CASE("where passt is slow the guest waits, and what went in part goes on first") {
  Bench bench;
  const Bytes frame = frame_of(65000);
  std::size_t sent = 0;
  while (bench.send(frame).state == State::moved) {
    ++sent;
    REQUIRE(sent < 1000);
  }
  CHECK_FALSE(bench.writable());
  CHECK(bench.send(frame).state == State::wait);
  Bytes stream;
  bool flushed = false;
  for (Bytes piece = bench.read(50000); !piece.empty(); piece = bench.read(50000)) {
    stream.insert(stream.end(), piece.begin(), piece.end());
    flushed = bench.endpoint.flush();
  }
  CHECK(flushed);
  CHECK(bench.writable());
  Bytes expected;
  for (std::size_t i = 0; i < sent; ++i) {
    const Bytes one = on_the_wire(frame);
    expected.insert(expected.end(), one.begin(), one.end());
  }
  CHECK((stream == expected));
  CHECK(bench.send(frame).state == State::moved);
}

TEST_CASE("what was under way when passt ended is forgotten, and the next one begins with a whole frame") {
  Bench bench;
  const Bytes big = frame_of(65000);
  while (bench.send(big).state == State::moved) {
  }
  Bytes half = on_the_wire(frame_of(100));
  half.resize(50);
  bench.write(half);
  CHECK(bench.receive().empty());
  bench.write(half);  // and some that was not read

  bench.endpoint.disconnect();
  const int fd = bench.endpoint.fd();
  CHECK_FALSE(bench.readable());
  CHECK(bench.send(frame_of(60)).state == State::lost);
  CHECK(bench.endpoint.flush());
  CHECK(bench.receive().empty());

  bench.endpoint.connect();
  CHECK(bench.endpoint.fd() == fd);
  CHECK(bench.read().empty());
  CHECK(bench.send(frame_of(60)).state == State::moved);
  CHECK(bench.read() == on_the_wire(frame_of(60)));
  bench.write(on_the_wire(frame_of(70)));
  CHECK(bench.receive().size() == 82);
}

TEST_CASE("no frame of the guest reaches the host's loopback") {
  Bench bench;
  const auto goes = [&](std::uint16_t type, std::initializer_list<unsigned> destination) {
    return bench.send(ip_frame(type, destination)).state == State::moved;
  };
  CHECK_FALSE(goes(0x0800, {127, 0, 0, 1}));
  CHECK_FALSE(goes(0x0800, {127, 255, 255, 254}));
  CHECK_FALSE(goes(0x0800, {0, 0, 0, 0}));
  CHECK_FALSE(goes(0x0800, {0, 1, 2, 3}));
  CHECK(goes(0x0800, {126, 0, 0, 1}));
  CHECK(goes(0x0800, {128, 0, 0, 1}));
  CHECK(goes(0x0800, {1, 0, 0, 0}));
  CHECK(goes(0x0800, {255, 255, 255, 255}));
  CHECK(goes(0x0806, {127, 0, 0, 1}));  // ARP
  CHECK_FALSE(goes(0x86dd, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  CHECK_FALSE(goes(0x86dd, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}));
  CHECK_FALSE(goes(0x86dd, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}));
  CHECK(goes(0x86dd, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}));
  CHECK(goes(0x86dd, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1}));
  CHECK(goes(0x86dd, {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}));
  CHECK(goes(0x86dd, {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}));
}

}  // namespace hum
