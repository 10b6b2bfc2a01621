// SPDX-License-Identifier: Apache-2.0
#include "devices/net/frame_transmitter.h"

#include "devices/net/fake_net.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using namespace net_wire;
using virtio::testing::wait_for;

TEST_CASE("a frame of the guest reaches the host, wherever the borders of its descriptors lie") {
  NetBench bench;
  const Bytes frame = frame_of(300);
  const Bytes packet = with_header({}, frame);
  using Cuts = std::vector<std::size_t>;
  for (const Cuts& cuts : {Cuts{}, Cuts{12}, Cuts{5}, Cuts{1, 2, 11, 13}, Cuts{40, 200}}) {
    CHECK(bench.transmit(packet, cuts));
    CHECK(bench.host().take() == packet);
  }
  CHECK(bench.count("tx_frames") == 5);
  CHECK(bench.count("tx_bytes") == 1500);
  CHECK(bench.host().flushes >= 5);
}

TEST_CASE("what is shorter or longer than a frame is dropped and given back") {
  NetBench bench;
  CHECK(bench.transmit(Bytes(11)));
  CHECK(bench.transmit(with_header({}, frame_of(ethernet_header_bytes - 1))));
  CHECK(bench.transmit(with_header({}, frame_of(most_frame_bytes + 1))));
  CHECK(bench.count("tx_dropped_malformed") == 3);
  for (const std::size_t size : {ethernet_header_bytes, most_frame_bytes}) {
    CHECK(bench.transmit(with_header({}, frame_of(size))));
    CHECK(is_frame(bench.host().take(), frame_of(size)));
  }
  CHECK(bench.count("tx_dropped_malformed") == 3);
}

TEST_CASE("a request of writable bytes alone is no frame") {
  NetBench bench;
  bench.driver.queue(1).add({{bench.driver.allocate(2000), 2000, true}});
  bench.driver.kick(1);
  CHECK(bench.driver.wait_used(1)->written == 0);
  CHECK(bench.count("tx_dropped_malformed") == 1);
}

TEST_CASE("a frame of more parts than the host takes at once is dropped") {
  NetBench bench({.queue_size = 1024});
  const Bytes packet = with_header({}, frame_of(2000));
  const auto transmit = [&](std::uint32_t first) {
    const GuestAddress at = bench.driver.place(packet);
    std::vector<Buffer> parts = {{at, first}};
    for (std::uint32_t i = 0; i < 1022; ++i) parts.push_back({at + (first + i), 1});
    const std::uint32_t rest = first + 1022;
    parts.push_back({at + rest, static_cast<std::uint32_t>(packet.size()) - rest});
    bench.driver.queue(1).add_indirect(bench.driver.allocate(16 * 1024), parts);
    bench.driver.kick(1);
    return bench.driver.wait_used(1).has_value();
  };
  CHECK(transmit(12));  // the copy of the header is one part
  CHECK(bench.host().take() == packet);
  CHECK(bench.count("tx_dropped_malformed") == 0);
  CHECK(transmit(13));
  CHECK(bench.count("tx_dropped_malformed") == 1);
}

TEST_CASE("what the host gets of a header is what the frame needs") {
  NetBench bench;
  Header header;
  header.flags = 0xff;
  header.gso_type = gso_tcp4;
  header.hdr_len = 54;
  header.gso_size = 1448;
  header.csum_start = 34;
  header.csum_offset = 16;
  header.num_buffers = 0x1234;
  const Bytes frame = frame_of(3000);
  CHECK(bench.transmit(header, frame));
  header.flags = header_needs_csum;
  header.num_buffers = 0;
  CHECK(bench.host().take() == with_header(header, frame));

  header = {};
  header.hdr_len = 9999;
  header.gso_size = 77;
  header.csum_start = 9999;
  CHECK(bench.transmit(header, frame));
  CHECK(bench.host().take() == with_header({}, frame));
}

TEST_CASE("an endless transmit chain breaks the device alone, and a reset mends it") {
  NetBench bench;
  virtio::testing::FakeQueue& queue = bench.driver.queue(1);
  queue.set_descriptor(0, bench.driver.allocate(64), 64, virtio::testing::descriptor_next, 0);
  queue.offer(0);
  bench.driver.kick(1);
  REQUIRE(wait_for(bench.driver.events().broken));
  bench.driver.reset();
  bench.driver.activate();
  CHECK(bench.transmit(with_header({}, frame_of(60))));
  CHECK(bench.host().take());
}

TEST_CASE("a slow host keeps frames waiting and loses none") {
  NetBench bench;
  bench.host().shrink(4096);
  constexpr int frames = 100;
  for (int i = 0; i < frames; ++i)
    bench.add_packet(with_header({}, frame_of(1000, own_mac, static_cast<unsigned>(i))));
  bench.driver.kick(1);
  while (bench.count("tx_frames") == 0) ::poll(nullptr, 0, 1);
  ::poll(nullptr, 0, 20);
  CHECK(bench.count("tx_frames") < frames);
  bench.driver.pause();  // the one that waits is sent once
  bench.driver.resume();
  for (int i = 0; i < frames; ++i)
    REQUIRE(is_frame(bench.host().take(), frame_of(1000, own_mac, static_cast<unsigned>(i))));
  for (int i = 0; i < frames; ++i) REQUIRE(bench.driver.wait_used(1));
  CHECK(bench.counts("tx_frames", frames));
}

TEST_CASE("a frame that the host has no room for has passed the filters once") {
  std::atomic<int> asked = 0;
  NetBench bench({.filters = {[&](FrameFilter::Direction, const Frame&) {
                    ++asked;
                    return FrameFilter::Answer{};
                  }}});
  bench.host().shrink(4096);
  constexpr int frames = 50;
  for (int i = 0; i < frames; ++i) bench.add_packet(with_header({}, frame_of(1000)));
  bench.driver.kick(1);
  for (int i = 0; i < frames; ++i) REQUIRE(is_frame(bench.host().take(), frame_of(1000)));
  for (int i = 0; i < frames; ++i) REQUIRE(bench.driver.wait_used(1));
  CHECK(asked == frames);
}

TEST_CASE("a frame that the host refuses is lost, and the next one is not") {
  NetBench bench;
  bench.host().send_error = EIO;
  CHECK(bench.transmit(with_header({}, frame_of(60))));
  bench.host().send_error = 0;
  CHECK(bench.transmit(with_header({}, frame_of(61))));
  CHECK(is_frame(bench.host().take(), frame_of(61)));
  CHECK(bench.count("tx_lost_by_host") == 1);
}

}  // namespace
}  // namespace hum
