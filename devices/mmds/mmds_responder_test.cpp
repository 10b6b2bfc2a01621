// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/mmds_responder.h"

#include <random>
#include <string>

#include "devices/mmds/testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using namespace std::chrono_literals;
using mmds::Segment;
using mmds::TcpConnection;
using Bench = ResponderBench;

TEST_CASE("a guest connects, asks twice on one connection and closes it") {
  Bench bench;
  bench.end.open();
  ++bench.end.sequence;
  const auto answer = bench.end.hear();
  REQUIRE(answer);
  CHECK((answer->segment.syn && answer->segment.ack && !answer->segment.rst));
  CHECK(answer->segment.acknowledgement == bench.end.sequence);
  CHECK(answer->segment.window == TcpConnection::most_received);
  CHECK(bench.quiet());
  bench.end.acknowledgement = answer->segment.sequence + 1;
  bench.end.acknowledge();
  CHECK(bench.quiet());
  for (int i = 0; i < 2; ++i) {
    bench.end.say(request_ami);
    CHECK(body_of(bench.end.listen()) == "ami-1");
    CHECK_FALSE(bench.end.closed);
    CHECK(bench.responder.due() == MmdsResponder::Clock::time_point::max());
  }
  bench.end.say("", true);
  const auto fin = bench.end.hear();
  REQUIRE(fin);
  CHECK(fin->segment.fin);
  CHECK(fin->segment.acknowledgement == bench.end.sequence);
  bench.end.take(*fin);
  bench.end.acknowledge();
  CHECK(bench.quiet());
  bench.end.acknowledge();  // it is forgotten
  const auto reset = bench.end.hear();
  REQUIRE(reset);
  CHECK(reset->segment.rst);
  CHECK(reset->segment.sequence == bench.end.acknowledgement);
}

TEST_CASE("an ARP request for the address is answered once") {
  Bench bench;
  std::vector<std::byte> frame(42);
  mmds::write_arp_reply({guest_mac, MmdsResponder::usual_address}, guest_address, guest_mac, frame);
  frame[21] = std::byte{1};  // a request
  CHECK(bench.responder.is_for_it(frame));
  bench.end.send_frame(frame);
  const auto reply = bench.next();
  REQUIRE(reply);
  CHECK(reply->size() == 42);
  CHECK(std::equal(MmdsResponder::mac.bytes.begin(), MmdsResponder::mac.bytes.end(),
                   reinterpret_cast<const std::uint8_t*>(reply->data()) + 22));
  CHECK(bench.quiet());
}

TEST_CASE("requests that come together are answered one after the other") {
  Bench bench;
  REQUIRE(bench.end.connect());
  bench.end.say(request_ami + request_ami + request_last);
  const std::string text = bench.end.listen() + bench.end.listen() + bench.end.listen();
  std::size_t count = 0;
  for (std::size_t at = text.find("ami-1"); at != std::string::npos; at = text.find("ami-1", at + 1)) ++count;
  CHECK(count == 3);
  CHECK(bench.end.closed);
}

TEST_CASE("the service closes first where the request says so") {
  Bench bench;
  REQUIRE(bench.end.connect());
  bench.end.say(request_last);
  const auto heard = bench.end.hear();
  REQUIRE(heard);
  CHECK(heard->segment.fin);
  CHECK(body_of(bench.end.take(*heard)) == "ami-1");
  bench.end.acknowledge();
  CHECK(bench.quiet());
  bench.end.say("more that nobody reads");
  const auto taken = bench.end.hear();
  REQUIRE(taken);
  CHECK(taken->segment.acknowledgement == bench.end.sequence);
  CHECK(taken->segment.window == TcpConnection::most_received);
  bench.end.say("", true);
  const auto last = bench.end.hear();
  REQUIRE(last);
  CHECK_FALSE(last->segment.rst);
  CHECK(last->segment.acknowledgement == bench.end.sequence);
  bench.end.acknowledge();
  const auto reset = bench.end.hear();
  REQUIRE(reset);
  CHECK(reset->segment.rst);
}

TEST_CASE("a guest that closes behind its request gets its answer") {
  Bench bench;
  REQUIRE(bench.end.connect());
  bench.end.say(request_long, true);
  CHECK(body_of(bench.end.listen()) == bench.long_text);
  bench.end.listen();
  CHECK(bench.end.closed);
  CHECK(bench.quiet());
}

TEST_CASE("what belongs to no connection is refused, but no reset is") {
  Bench bench;
  Segment segment = bench.end.segment("data");
  segment.acknowledgement = 77;
  bench.end.send(segment);
  auto reset = bench.end.hear();
  REQUIRE(reset);
  CHECK((reset->segment.rst && !reset->segment.ack));
  CHECK(reset->segment.sequence == 77);

  segment.ack = false;
  segment.fin = true;
  bench.end.send(segment);
  reset = bench.end.hear();
  REQUIRE(reset);
  CHECK((reset->segment.rst && reset->segment.ack));
  CHECK(reset->segment.acknowledgement == bench.end.sequence + 5);

  segment.rst = true;
  bench.end.send(segment);
  CHECK(bench.quiet());

  bench.end.server.port = 81;
  bench.end.open();
  reset = bench.end.hear();
  REQUIRE(reset);
  CHECK(reset->segment.rst);
  CHECK(reset->segment.acknowledgement == bench.end.sequence + 1);
}

TEST_CASE("a request that is too long is answered and ends the connection") {
  Bench bench;
  REQUIRE(bench.end.connect());
  bench.end.say("GET / HTTP/1.1\r\nA: ");
  bench.end.listen();
  for (int i = 0; i < 3; ++i) bench.end.say(std::string(1460, 'x'));
  CHECK(bench.end.listen().substr(0, 13) == "HTTP/1.1 400 ");
  CHECK(bench.end.closed);
}

TEST_CASE("damaged frames are as if they never came") {
  Bench bench;
  REQUIRE(bench.end.connect());
  std::vector<std::byte> frame = bench.end.frame_of(bench.end.segment(request_ami));
  frame[50] ^= std::byte{1};
  bench.end.send_frame(frame);
  CHECK(bench.quiet());
  bench.responder.take(frame, 14 + 20 + 16, bench.now);  // a checksum that is still to be made
  CHECK(body_of(bench.end.hear().value_or(Heard{}).text) == "ami-1");
  for (std::size_t size = 0; size < frame.size(); ++size)
    bench.responder.take(std::span(frame).first(size), 0, bench.now);
  CHECK(bench.quiet());
}

TEST_CASE("a flood of SYNs fills a table of a fixed size, in which the longest silent ones make room") {
  Bench bench;
  const auto opens = [&](std::uint16_t port) {
    const GuestEnd other = bench.from_port(port);
    other.open();
    const auto heard = other.hear();
    REQUIRE(heard);
    return !heard->segment.rst;
  };
  REQUIRE(bench.end.connect());
  bench.now += 10ms;
  for (std::uint16_t port = 1; port < MmdsResponder::most_connections; ++port) CHECK(opens(port));
  CHECK_FALSE(opens(1000));
  bench.now += MmdsResponder::idle - 11ms;
  bench.end.acknowledge();  // not silent
  CHECK_FALSE(opens(1000));
  bench.now += 11ms;
  const GuestEnd evicted = bench.from_port(1);
  const GuestEnd fresh = bench.from_port(1000);
  fresh.open();
  const auto reset = evicted.hear();
  REQUIRE(reset);
  CHECK(reset->segment.rst);
  REQUIRE(fresh.hear());
  bench.end.say(request_ami);
  CHECK(body_of(bench.end.listen()) == "ami-1");
  for (std::uint16_t port = 2000; port < 3000; ++port) bench.from_port(port).open();
  int frames = 0;
  while (bench.next()) ++frames;
  CHECK(frames <= 100);
}

TEST_CASE("segments that make no sense do no harm") {
  Bench bench;
  std::mt19937 random(7);
  std::uint64_t made = 0;
  constexpr int rounds = 30000;
  for (int i = 0; i < rounds; ++i) {
    GuestEnd other = bench.from_port(static_cast<std::uint16_t>(1 + random() % 40));
    const auto near = [&](std::uint64_t number) {
      return static_cast<std::uint32_t>(random() % 4 == 0 ? random() : number + random() % 5000 - 2500);
    };
    const std::string text(random() % 3 == 0 ? random() % 1460 : 0, "GET /\r\n"[random() % 7]);
    Segment segment = other.segment(text);
    segment.sequence = near(1000);
    segment.acknowledgement = near(static_cast<std::uint64_t>(bench.now.time_since_epoch() / 4us));
    segment.window = static_cast<std::uint16_t>(random() % 3 == 0 ? random() : 0);
    segment.syn = random() % 3 == 0;
    segment.ack = random() % 4 != 0;
    segment.fin = random() % 5 == 0;
    segment.rst = random() % 20 == 0;
    if (random() % 2 == 0) segment.most_payload = static_cast<std::uint16_t>(random());
    std::vector<std::byte> frame = other.frame_of(segment);
    if (random() % 10 == 0) frame[random() % frame.size()] ^= std::byte{1} << random() % 8;
    bench.responder.take(frame, random() % 2 == 0 ? 50 : 0, bench.now);
    for (int asked = 0; asked < 4 && bench.next(); ++asked) ++made;
    if (random() % 20 == 0) bench.now += std::chrono::milliseconds(random() % 500);
  }
  CHECK(made > 1000);
  CHECK(made < 2 * rounds);
  bench.now += 2s;
  while (bench.next()) {
  }
  GuestEnd fresh = bench.from_port(50000);
  REQUIRE(fresh.connect());
  fresh.say(request_ami);
  CHECK(body_of(fresh.listen()) == "ami-1");
}

}  // namespace
}  // namespace hum
