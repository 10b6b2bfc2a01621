// SPDX-License-Identifier: Apache-2.0
#include "devices/vsock/vsock_stream.h"

#include <sys/epoll.h>

#include <numeric>

#include "devices/vsock/testing.h"

namespace hum::testing {
namespace {

constexpr std::size_t room = 1000;

struct Bench {
  Bench() : channel(make_socket()), stream(std::move(channel.in), room) {}

  std::size_t write(std::span<const std::byte> bytes) {
    const iovec whole{const_cast<std::byte*>(bytes.data()), bytes.size()};
    return stream.write({&whole, 1}, 0, bytes.size());
  }
  // Writes until the socket takes no more; returns what was written, of which the last is held.
  std::vector<std::byte> fill() {
    const auto bytes = pattern(4 * mib);
    std::size_t done = 0;
    while (stream.drained() && done < bytes.size()) {
      write(std::span(bytes).subspan(done, 500));
      done += 500;
    }
    REQUIRE_FALSE(stream.drained());
    return {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(done)};
  }

  Channel channel;
  VsockStream stream;
};

TEST_CASE("what a socket does not take is held, up to the room, and goes out in its order") {
  Bench bench;
  auto sent = bench.fill();
  // From here on in pieces that go round the ring several times.
  std::vector<std::byte> seen;
  std::size_t held = 0;
  const auto more = pattern(50'000);
  std::size_t at = 0;
  while (at < more.size()) {
    const std::size_t piece = std::min<std::size_t>(room / 2, more.size() - at);
    const std::size_t taken = bench.write(std::span(more).subspan(at, piece));
    held = held + piece - taken;
    sent.insert(sent.end(), more.begin() + static_cast<std::ptrdiff_t>(at),
                more.begin() + static_cast<std::ptrdiff_t>(at + piece));
    at += piece;
    while (!bench.stream.drained()) {
      const auto part = read_all(bench.channel.out, std::min<std::size_t>(unread(bench.channel.out), 7000));
      seen.insert(seen.end(), part.begin(), part.end());
      bench.stream.ready(EPOLLOUT);
      bench.stream.flush();
    }
  }
  const auto rest = read_all(bench.channel.out, sent.size() - seen.size());
  seen.insert(seen.end(), rest.begin(), rest.end());
  CHECK((seen == sent));
}

TEST_CASE("a socket that would wait is not tried again before it is ready") {
  Bench bench;
  bench.fill();
  read_all(bench.channel.out, unread(bench.channel.out));
  CHECK(bench.stream.flush() == 0);
  bench.stream.ready(EPOLLOUT);
  CHECK(bench.stream.flush() > 0);
  CHECK(bench.stream.drained());
}

TEST_CASE("what nobody will read counts as taken and is gone") {
  Bench bench;
  bench.fill();
  bench.channel.out.reset();
  bench.stream.ready(EPOLLHUP);
  const std::size_t lost = bench.stream.flush();
  CHECK(lost > 0);
  CHECK(lost <= room);
  CHECK(bench.stream.drained());
  CHECK(bench.stream.output_ended());
  CHECK(bench.write(pattern(300)) == 300);
}

TEST_CASE("all that was sent is read before the end of an input is seen") {
  Bench bench;
  write_all(bench.channel.out, text("abc"));
  bench.channel.out.reset();
  bench.stream.ready(EPOLLIN | EPOLLHUP);
  std::array<std::byte, 2> part;
  const iovec to{part.data(), part.size()};
  CHECK(bench.stream.read({&to, 1}, 0, 2) == 2);
  CHECK_FALSE(bench.stream.input_ended());
  CHECK(bench.stream.read({&to, 1}, 1, 1) == 1);
  CHECK(part == std::array{std::byte{'a'}, std::byte{'c'}});
  CHECK(bench.stream.readable());
  CHECK(bench.stream.read({&to, 1}, 0, 2) == 0);
  CHECK(bench.stream.input_ended());
  CHECK(bench.stream.output_ended());
  CHECK_FALSE(bench.stream.readable());
}

TEST_CASE("the end of one direction leaves the other") {
  Bench bench;
  std::byte byte{};
  const iovec to{&byte, 1};
  REQUIRE(::shutdown(bench.channel.out.get(), SHUT_WR) == 0);
  bench.stream.ready(EPOLLIN | EPOLLRDHUP);
  CHECK(bench.stream.read({&to, 1}, 0, 1) == 0);
  CHECK(bench.stream.input_ended());
  CHECK_FALSE(bench.stream.output_ended());
  CHECK(bench.write(text("abc")) == 3);
  bench.stream.end_output();
  CHECK(read_all(bench.channel.out, 4) == text("abc"));
}

TEST_CASE("a client that reads no more is told of by the next write") {
  Bench bench;
  REQUIRE(::shutdown(bench.channel.out.get(), SHUT_RD) == 0);
  CHECK(bench.write(text("abc")) == 3);
  CHECK(bench.stream.output_ended());
  CHECK_FALSE(bench.stream.input_ended());
}

TEST_CASE("an input that the guest does not want fails at the sender") {
  Bench bench;
  bench.stream.end_input();
  CHECK(::send(bench.channel.out.get(), "x", 1, MSG_NOSIGNAL) == -1);
  CHECK(errno == EPIPE);
  bench.stream.end_input();
  CHECK(bench.write(text("abc")) == 3);
  CHECK(read_all(bench.channel.out, 3) == text("abc"));
}

TEST_CASE("a stream that is closed takes everything and gives nothing") {
  Bench bench;
  bench.fill();
  bench.stream.close();
  CHECK(bench.stream.drained());
  CHECK(bench.stream.flush() == 0);
  CHECK(bench.write(text("abc")) == 3);
  CHECK_FALSE(bench.stream.readable());
}

}  // namespace
}  // namespace hum::testing
