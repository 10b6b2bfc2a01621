// SPDX-License-Identifier: Apache-2.0
#include "devices/mmds/tcp_connection.h"

#include <algorithm>
#include <random>
#include <string>

#include "devices/mmds/testing.h"
#include "vmm/base/testing.h"

namespace hum::mmds {
namespace {

using namespace testing;
using namespace std::chrono_literals;
using Bench = ResponderBench;

TEST_CASE("a request may come byte by byte") {
  Bench bench;
  REQUIRE(bench.end.connect());
  for (std::size_t i = 0; i + 1 < request_ami.size(); ++i) {
    bench.end.say(request_ami.substr(i, 1));
    const auto heard = bench.end.hear();
    REQUIRE(heard);
    CHECK(heard->segment.acknowledgement == bench.end.sequence);
    CHECK(heard->segment.window == TcpConnection::most_received - i - 1);
    CHECK(bench.quiet());
  }
  bench.end.say("\n");
  CHECK(body_of(bench.end.listen()) == "ami-1");
}

TEST_CASE("an answer that is lost is sent again when its time is over, and each time that is longer") {
  Bench bench;
  REQUIRE(bench.end.connect());
  bench.end.say(request_ami);
  REQUIRE(bench.end.hear());
  auto timeout = TcpConnection::first_timeout;
  for (int retry = 0; retry < TcpConnection::most_retries; ++retry) {
    CHECK(bench.responder.due() == bench.now + timeout);
    bench.now += timeout - 1ms;
    CHECK(bench.quiet());
    bench.now += 1ms;
    const auto again = bench.end.hear();
    REQUIRE(again);
    CHECK(again->segment.sequence == bench.end.acknowledgement);
    CHECK(body_of(again->text) == "ami-1");
    CHECK(bench.quiet());
    timeout = std::min(2 * timeout, TcpConnection::longest_timeout);
  }
  bench.now += timeout;
  CHECK(bench.quiet());
  CHECK(bench.responder.due() == MmdsResponder::Clock::time_point::max());
  bench.end.acknowledge();
  const auto reset = bench.end.hear();
  REQUIRE(reset);
  CHECK(reset->segment.rst);
}

TEST_CASE("after a loss in the middle the rest comes again, and an acknowledgement of all ends that") {
  Bench bench;
  REQUIRE(bench.end.connect());
  bench.end.say(request_long);
  std::string text;
  std::uint32_t end_of_all = 0;
  for (int i = 0; const auto heard = bench.end.hear(); ++i) {
    end_of_all = heard->segment.sequence + static_cast<std::uint32_t>(heard->text.size());
    if (i < 3) text += bench.end.take(*heard);
  }
  bench.end.acknowledge();
  CHECK(bench.quiet());
  bench.now += TcpConnection::first_timeout;
  const auto again = bench.end.hear();
  REQUIRE(again);
  CHECK(again->segment.sequence == bench.end.acknowledgement);
  bench.end.acknowledgement = end_of_all;  // the others had arrived, after all
  bench.end.acknowledge();
  CHECK(bench.quiet());
  CHECK(bench.responder.due() == MmdsResponder::Clock::time_point::max());
  bench.end.say(request_ami);
  CHECK(body_of(bench.end.listen()) == "ami-1");
}

TEST_CASE("the answer to a SYN comes again after its time, and when the SYN does") {
  Bench bench;
  bench.end.open();
  const auto first = bench.end.hear();
  REQUIRE(first);
  CHECK(bench.quiet());
  bench.now += 10ms;
  bench.end.open();
  const auto second = bench.end.hear();
  REQUIRE(second);
  CHECK(second->segment.syn);
  CHECK(second->segment.sequence == first->segment.sequence);
  CHECK(bench.quiet());
  bench.now += TcpConnection::first_timeout;
  const auto third = bench.end.hear();
  REQUIRE(third);
  CHECK(third->segment.syn);
  CHECK(third->segment.sequence == first->segment.sequence);
}

TEST_CASE("segments are as large as the guest takes them, and end with its window") {
  Bench bench;
  bench.end.window = 2500;
  bench.end.open(1000);
  ++bench.end.sequence;
  auto heard = bench.end.hear();
  REQUIRE(heard);
  bench.end.acknowledgement = heard->segment.sequence + 1;
  bench.end.say(request_long);
  std::string text;
  for (const std::size_t size : {1000u, 1000u, 500u}) {
    heard = bench.end.hear();
    REQUIRE(heard);
    CHECK(heard->text.size() == size);
    text += bench.end.take(*heard);
  }
  CHECK(bench.quiet());
  bench.end.window = 700;
  bench.end.acknowledge();
  heard = bench.end.hear();
  REQUIRE(heard);
  CHECK(heard->text.size() == 700);
  text += bench.end.take(*heard);
  CHECK(bench.quiet());
  bench.end.window = 60000;
  bench.end.acknowledge();
  while ((heard = bench.end.hear())) {
    CHECK(heard->text.size() <= 1000);
    text += bench.end.take(*heard);
  }
  CHECK(body_of(text) == bench.long_text);
}

TEST_CASE("what a guest says of its segments' size has bounds") {
  for (const auto& [asked, used] :
       std::initializer_list<std::pair<std::optional<std::uint16_t>, std::size_t>>{
           {std::nullopt, 536}, {0, 28}, {27, 28}, {29, 29}, {1460, 1460}, {1461, 1460}, {65535, 1460}}) {
    Bench bench;
    bench.end.open(asked);
    ++bench.end.sequence;
    const auto heard = bench.end.hear();
    REQUIRE(heard);
    bench.end.acknowledgement = heard->segment.sequence + 1;
    bench.end.say(request_long);
    const auto first = bench.end.hear();
    REQUIRE(first);
    CHECK(first->text.size() == used);
  }
}

TEST_CASE("a closed window is probed for as long as the guest answers, and all goes on when it opens") {
  Bench bench;
  bench.end.window = 0;
  REQUIRE(bench.end.connect());
  bench.end.say(request_long);
  auto heard = bench.end.hear();
  REQUIRE(heard);
  CHECK(heard->text.empty());
  auto timeout = TcpConnection::first_timeout;
  for (int i = 0; i < 3 * TcpConnection::most_retries; ++i) {
    CHECK(bench.quiet());
    bench.now += timeout;
    heard = bench.end.hear();
    REQUIRE(heard);
    CHECK(heard->text == "H");
    timeout = std::min(2 * timeout, TcpConnection::longest_timeout);
    bench.end.acknowledge();  // of nothing new
  }
  bench.end.window = 60000;
  bench.end.acknowledge();
  CHECK(body_of(bench.end.listen()) == bench.long_text);
}

TEST_CASE("a window that closes with the last answer is probed for the next one, or for the end") {
  for (const bool ends : {false, true}) {
    Bench bench;
    REQUIRE(bench.end.connect());
    bench.end.say(ends ? request_ami : request_ami + request_ami, ends);
    bench.end.window = 0;
    CHECK(body_of(bench.end.listen()) == "ami-1");
    CHECK(bench.quiet());
    bench.now += TcpConnection::first_timeout;
    const auto heard = bench.end.hear();
    REQUIRE(heard);
    CHECK(heard->text == (ends ? "" : "H"));
    CHECK(heard->segment.fin == ends);
  }
}

TEST_CASE("a closed window of a guest that is gone ends the connection") {
  Bench bench;
  bench.end.window = 0;
  REQUIRE(bench.end.connect());
  bench.end.say(request_long);
  for (int i = 0; i < TcpConnection::most_retries; ++i) {
    while (bench.next()) {
    }
    bench.now += TcpConnection::longest_timeout;
    CHECK(bench.next());
  }
  bench.now += TcpConnection::longest_timeout;
  CHECK(bench.quiet());
  CHECK(bench.responder.due() == MmdsResponder::Clock::time_point::max());
}

TEST_CASE("a reset ends a connection only with the number that comes next") {
  Bench bench;
  REQUIRE(bench.end.connect());
  const auto reset_at = [&](std::uint32_t offset) {
    Segment segment = bench.end.segment();
    segment.sequence += offset;
    segment.rst = true;
    bench.end.send(segment);
  };
  reset_at(0xffffffff);
  reset_at(TcpConnection::most_received);
  CHECK(bench.quiet());
  reset_at(1);
  const auto challenge = bench.end.hear();
  REQUIRE(challenge);
  CHECK((challenge->segment.ack && !challenge->segment.rst));
  bench.end.say(request_ami);
  CHECK(body_of(bench.end.listen()) == "ami-1");
  reset_at(0);
  CHECK(bench.quiet());
  bench.end.acknowledge();
  const auto unknown = bench.end.hear();
  REQUIRE(unknown);
  CHECK(unknown->segment.rst);
}

TEST_CASE("a SYN within a connection changes nothing") {
  Bench bench;
  REQUIRE(bench.end.connect());
  Segment syn = bench.end.segment();
  syn.syn = true;
  bench.end.send(syn);
  const auto challenge = bench.end.hear();
  REQUIRE(challenge);
  CHECK((challenge->segment.ack && !challenge->segment.rst && !challenge->segment.syn));
  bench.end.say(request_ami);
  CHECK(body_of(bench.end.listen()) == "ami-1");
}

TEST_CASE("acknowledgements of what was never sent get no further") {
  Bench bench;
  bench.end.open();
  ++bench.end.sequence;
  const auto answer = bench.end.hear();
  REQUIRE(answer);
  for (const std::uint32_t wrong : {answer->segment.sequence, answer->segment.sequence + 2}) {
    bench.end.acknowledgement = wrong;
    bench.end.acknowledge();
    const auto reset = bench.end.hear();
    REQUIRE(reset);
    CHECK((reset->segment.rst && reset->segment.sequence == wrong));
  }
  bench.end.acknowledgement = answer->segment.sequence + 1;
  bench.end.acknowledge();
  CHECK(bench.quiet());
  ++bench.end.acknowledgement;
  bench.end.send(bench.end.segment(request_ami));
  const auto heard = bench.end.hear();
  REQUIRE(heard);
  CHECK(heard->text.empty());
  CHECK(heard->segment.acknowledgement == bench.end.sequence);
  --bench.end.acknowledgement;
  bench.end.say(request_ami);
  CHECK(body_of(bench.end.listen()) == "ami-1");
}

TEST_CASE("data that overlaps is taken once, and data out of order or of the window not at all") {
  Bench bench;
  REQUIRE(bench.end.connect());
  const std::uint32_t begin = bench.end.sequence;
  const auto send = [&](std::size_t from, std::size_t to) {
    bench.end.sequence = begin + static_cast<std::uint32_t>(from);
    bench.end.send(bench.end.segment(std::string_view(request_ami).substr(from, to - from)));
    const auto heard = bench.end.hear();
    REQUIRE(heard);
    return heard->segment.acknowledgement - begin;
  };
  CHECK(send(0, 6) == 6);
  CHECK(send(8, 10) == 6);   // one in between is missing
  CHECK(send(0, 6) == 6);    // known
  CHECK(send(3, 10) == 10);  // known in part
  bench.end.sequence = begin + 10 + TcpConnection::most_received;
  bench.end.send(bench.end.segment("x"));
  const auto heard = bench.end.hear();
  REQUIRE(heard);
  CHECK(heard->segment.acknowledgement == begin + 10);
  bench.end.sequence = begin + 10;
  bench.end.say(request_ami.substr(10));
  CHECK(body_of(bench.end.listen()) == "ami-1");
}

TEST_CASE("an end that comes out of order is no end yet") {
  Bench bench;
  REQUIRE(bench.end.connect());
  Segment segment = bench.end.segment();
  segment.sequence += 3;
  segment.fin = true;
  bench.end.send(segment);
  const auto heard = bench.end.hear();
  REQUIRE(heard);
  CHECK(heard->segment.acknowledgement == bench.end.sequence);
  bench.end.say(request_ami);
  CHECK(body_of(bench.end.listen()) == "ami-1");
  CHECK_FALSE(bench.end.closed);
}

TEST_CASE("of a segment larger than the window only what fits is taken, and not its end") {
  Bench bench;
  REQUIRE(bench.end.connect());
  const std::string large(TcpConnection::most_received + 1, 'x');
  Segment segment = bench.end.segment(large);
  segment.fin = true;
  bench.end.send(segment);
  const auto heard = bench.end.hear();
  REQUIRE(heard);
  CHECK(heard->segment.acknowledgement == bench.end.sequence + TcpConnection::most_received);
}

TEST_CASE("numbers go round on both sides") {
  Bench bench;
  bench.now = MmdsResponder::Clock::time_point(std::chrono::microseconds(4 * ((1ll << 32) - 1000)));
  bench.end.sequence = 0xfffffff0;
  REQUIRE(bench.end.connect());
  CHECK(bench.end.acknowledgement > 0xffff0000);
  bench.end.say(request_long);
  CHECK(body_of(bench.end.listen()) == bench.long_text);
  CHECK(bench.end.acknowledgement < 0x10000);
  CHECK(bench.end.sequence < 0x1000);
  bench.end.say(request_last);
  CHECK(body_of(bench.end.listen()) == "ami-1");
  CHECK(bench.end.closed);
}

// What a network does that loses a third of all frames.
TEST_CASE("answers arrive whole over a wire that loses frames both ways") {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    Bench bench;
    std::mt19937 random(seed);
    const auto lost = [&] { return random() % 3 == 0; };
    REQUIRE(bench.end.connect());
    const std::uint32_t begin = bench.end.sequence;
    std::string text;
    bool whole = false;
    for (int rounds = 0; rounds < 1000 && !whole; ++rounds) {
      while (const auto heard = bench.end.hear()) {
        bench.end.sequence = std::max(bench.end.sequence, heard->segment.acknowledgement);
        if (!lost()) text += bench.end.take(*heard);
        if (!lost()) bench.end.acknowledge();
      }
      if (bench.end.sequence == begin && !lost()) bench.end.send(bench.end.segment(request_long));
      whole = body_of(text).size() >= bench.long_text.size();
      if (bench.responder.due() != MmdsResponder::Clock::time_point::max() &&
          bench.responder.due() > bench.now)
        bench.now = bench.responder.due();
      bench.end.acknowledge();
    }
    INFO("seed " << seed);
    CHECK(body_of(text) == bench.long_text);
  }
}

}  // namespace
}  // namespace hum::mmds
