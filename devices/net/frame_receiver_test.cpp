// SPDX-License-Identifier: Apache-2.0
#include "devices/net/frame_receiver.h"

#include "devices/net/fake_net.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using namespace net_wire;
using namespace std::chrono_literals;
using virtio::testing::wait_for;

constexpr std::uint64_t without_mergeable = ~feature_mrg_rxbuf;

TEST_CASE("a frame from the host lands in the guest's buffer behind its header") {
  for (const std::uint64_t features : {~std::uint64_t{0}, without_mergeable}) {
    NetBench bench({.features = features});
    bench.give_buffers(2, 2048);
    const Bytes frame = frame_of(200);
    Header header;
    header.flags = header_needs_csum;
    header.csum_start = 34;
    header.csum_offset = 16;
    bench.host().give(with_header(header, frame));
    CHECK(is_frame(bench.received(), frame));
    CHECK(bench.header_received.num_buffers == 1);
    CHECK(bench.header_received.flags == header_needs_csum);
    CHECK(bench.header_received.csum_start == 34);
    CHECK(bench.count("rx_frames") == 1);
    CHECK(bench.count("rx_bytes") == 200);
  }
}

TEST_CASE("the shortest and the longest frame reach the guest, and what is no frame does not") {
  NetBench bench;
  bench.give_buffers(100, 2048);
  bench.host().give(with_header({}, frame_of(ethernet_header_bytes - 1)));
  bench.host().give(Bytes(3));
  for (const std::size_t size : {ethernet_header_bytes, most_frame_bytes}) {
    const Bytes frame = frame_of(size);
    bench.host().give(with_header({}, frame));
    CHECK(is_frame(bench.received(), frame));
  }
  CHECK(bench.header_received.num_buffers == 33);
  CHECK(bench.count("rx_lost_by_host") == 2);
}

TEST_CASE("a frame goes into several buffers, each filled before the next one") {
  NetBench bench;
  bench.give_buffers(1, 12);  // as small as one may be
  bench.give_buffers(4, 100);
  const Bytes frame = frame_of(400);
  bench.host().give(with_header({}, frame));
  std::vector<std::uint32_t> sizes;
  for (int i = 0; i < 5; ++i) sizes.push_back(bench.driver.wait_used(0).value().written);
  CHECK(sizes == std::vector<std::uint32_t>{12, 100, 100, 100, 100});
  bench.give_buffers(1, 2048);
  bench.host().give(with_header({}, frame));
  CHECK(is_frame(bench.received(), frame));
}

TEST_CASE("the header may lie in several descriptors and several buffers") {
  NetBench bench;
  const GuestAddress at = bench.driver.allocate(4096);
  bench.driver.queue(0).add({{at, 3, true}, {at + 3, 2, true}});
  bench.driver.queue(0).add({{at + 5, 6, true}});
  bench.driver.queue(0).add({{at + 11, 1, true}, {at + 12, 500, true}});
  bench.driver.kick(0);
  const Bytes frame = frame_of(300);
  bench.host().give(with_header({}, frame));
  std::vector<std::uint32_t> sizes;
  for (int i = 0; i < 3; ++i) sizes.push_back(bench.driver.wait_used(0).value().written);
  CHECK(sizes == std::vector<std::uint32_t>{5, 6, 301});
  Bytes packet(312);
  bench.machine.memory.read_bytes(at, packet);
  CHECK(is_frame(packet, frame));
  CHECK(bench.machine.memory.read<Header>(at).num_buffers == 3);
}

TEST_CASE("without mergeable buffers a frame fits into one, or is dropped and the buffer serves the next") {
  NetBench bench({.features = without_mergeable});
  bench.give_buffers(2, 112);
  const Bytes fits = frame_of(100);
  bench.host().give(with_header({}, frame_of(101)));
  bench.host().give(with_header({}, frame_of(most_frame_bytes)));
  bench.host().give(with_header({}, fits));
  bench.host().give(with_header({}, fits));
  CHECK(is_frame(bench.received(), fits));
  CHECK(is_frame(bench.received(), fits));
  CHECK(bench.count("rx_dropped_no_room") == 2);
  CHECK(bench.count("rx_frames") == 2);
}

TEST_CASE("a frame that came before there was room for all of it goes on when the driver gives more") {
  NetBench bench;
  const EventFd read;
  bench.host().on_frame = [&] { read.signal(); };
  const Bytes frame = frame_of(5000);
  // Under load the wait for more buffers may end before there are any.
  for (int attempt = 0; attempt < 50; ++attempt) {
    const std::uint64_t dropped = bench.count("rx_dropped_no_room");
    bench.give_buffers(1, 1024);
    bench.host().give(with_header({}, frame));
    REQUIRE(wait_for(read));
    bench.give_buffers(4, 1024);
    const bool in_time = is_frame(bench.received(0, 1s), frame);
    REQUIRE(bench.count("rx_dropped_no_room") == dropped + (in_time ? 0 : 1));
    if (!in_time) continue;
    CHECK(bench.header_received.num_buffers == 5);
    return;
  }
  FAIL("never in time");
}

TEST_CASE("a frame that there never is room for is dropped after a while, and the next one comes") {
  NetBench bench;
  bench.give_buffers(2, 1024);
  bench.host().give(with_header({}, frame_of(3000)));
  const Bytes next = frame_of(1500);
  bench.host().give(with_header({}, next));
  CHECK(is_frame(bench.received(), next));
  CHECK(bench.count("rx_dropped_no_room") == 1);
}

TEST_CASE("frames wait at the host until there are buffers") {
  NetBench bench;
  const Bytes first = frame_of(64, own_mac, 1);
  const Bytes second = frame_of(64, own_mac, 2);
  bench.host().give(with_header({}, first));
  bench.host().give(with_header({}, second));
  CHECK_FALSE(bench.received(0, 20ms));
  CHECK(bench.host().receives == 0);
  bench.give_buffers(1, 2048);
  CHECK(is_frame(bench.received(), first));
  bench.give_buffers(1, 2048);
  CHECK(is_frame(bench.received(), second));
}

TEST_CASE("many frames at once make few interrupts") {
  NetBench bench({.features = ~virtio::feature_event_idx});
  bench.give_buffers(128, 256);
  auto queues = bench.device.suspend();
  const std::uint64_t before = queues.at(0).queue->counters().interrupts.get();
  for (int i = 0; i < 128; ++i) bench.host().give(with_header({}, frame_of(64)));
  bench.device.activate(~virtio::feature_event_idx, std::move(queues), bench.driver.events());
  REQUIRE(bench.counts("rx_frames", 128));
  queues = bench.device.suspend();
  CHECK(queues.at(0).queue->counters().interrupts.get() - before <= 3);
}

TEST_CASE("frames that the host's end has taken in reach the guest without another sign of it") {
  NetBench bench;
  bench.host().hoards = true;
  constexpr unsigned frames = 200;
  bench.give_buffers(frames, 256);
  bench.driver.pause();
  for (unsigned i = 0; i < frames; ++i) bench.host().give(with_header({}, frame_of(64, own_mac, i)));
  bench.driver.resume();
  for (unsigned i = 0; i < frames; ++i) REQUIRE(is_frame(bench.received(), frame_of(64, own_mac, i)));
}

TEST_CASE("a frame that the driver could not read is dropped") {
  NetBench bench({.features = ~(feature_guest_csum | feature_guest_tso4)});
  bench.give_buffers(4, 2048);
  Header header;
  header.gso_type = gso_tcp4;
  header.gso_size = 1400;
  bench.host().give(with_header(header, frame_of(64)));
  header = {};
  header.flags = header_needs_csum;
  bench.host().give(with_header(header, frame_of(64)));
  header.flags = header_data_valid;
  const Bytes frame = frame_of(65);
  bench.host().give(with_header(header, frame));
  CHECK(is_frame(bench.received(), frame));
  CHECK(bench.header_received.flags == 0);  // the driver does not know the flag
  CHECK(bench.count("rx_dropped_unwanted") == 2);
}

TEST_CASE("the guest gets the frames that its driver wants") {
  NetBench bench;
  bench.give_buffers(16, 2048);
  const auto arrives = [&](const MacAddress& to) {
    const std::uint64_t unwanted = bench.count("rx_dropped_unwanted");
    bench.host().give(with_header({}, frame_of(60, to)));
    const Bytes last = frame_of(61);
    bench.host().give(with_header({}, last));
    const bool arrived = is_frame(bench.received(), frame_of(60, to));
    if (arrived) REQUIRE(is_frame(bench.received(), last));
    REQUIRE(bench.count("rx_dropped_unwanted") == unwanted + (arrived ? 0 : 1));
    return arrived;
  };
  CHECK(arrives(other_mac));
  REQUIRE(bench.command_with(class_rx, rx_promiscuous, std::uint8_t{0}) == control_ok);
  CHECK_FALSE(arrives(other_mac));
  CHECK_FALSE(arrives(group_mac));
  CHECK(arrives(broadcast_mac));
  REQUIRE(bench.command_with(class_rx, rx_all_multicast, std::uint8_t{1}) == control_ok);
  CHECK(arrives(group_mac));
}

}  // namespace
}  // namespace hum
