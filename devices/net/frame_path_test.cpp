// SPDX-License-Identifier: Apache-2.0
#include "devices/net/frame_path.h"

#include <mutex>

#include "devices/net/fake_net.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;
using namespace net_wire;
using namespace std::chrono_literals;
using virtio::testing::wait_for;

TEST_CASE("filters see the start of each frame as a copy and the rest of it, in both directions") {
  std::mutex mutex;
  std::vector<std::pair<FrameFilter::Direction, Bytes>> seen;
  std::size_t starts = 0;
  NetBench bench({.filters = {[&](FrameFilter::Direction direction, const Frame& frame) {
                    Bytes whole(frame.start.begin(), frame.start.end());
                    for (const iovec& part : frame.rest) {
                      const auto* const begin = static_cast<const std::byte*>(part.iov_base);
                      whole.insert(whole.end(), begin, begin + part.iov_len);
                    }
                    const std::lock_guard lock(mutex);
                    starts += frame.start.size();
                    if (whole.size() == frame.bytes) seen.emplace_back(direction, whole);
                    return FrameFilter::Answer{};
                  }}});
  bench.give_buffers(4, 100);
  const Bytes small = frame_of(60);
  const Bytes large = frame_of(250);
  CHECK(bench.transmit(with_header({}, small), {20, 50}));
  CHECK(bench.transmit(with_header({}, large), {20, 150}));
  CHECK(is_frame(bench.host().take(), small));
  CHECK(is_frame(bench.host().take(), large));
  bench.host().give(with_header({}, small));
  bench.host().give(with_header({}, large));
  CHECK(is_frame(bench.received(), small));
  CHECK(is_frame(bench.received(), large));
  const std::lock_guard lock(mutex);
  using enum FrameFilter::Direction;
  CHECK(seen == std::vector<std::pair<FrameFilter::Direction, Bytes>>{
                    {from_guest, small}, {from_guest, large}, {to_guest, small}, {to_guest, large}});
  CHECK(starts == 2 * (60 + 128));
}

TEST_CASE("the host gets the copy that the filters saw, whatever the guest makes of the frame meanwhile") {
  std::function<void()> change;
  NetBench bench({.filters = {[&](FrameFilter::Direction, const Frame&) {
                    change();
                    return FrameFilter::Answer{};
                  }}});
  const Bytes packet = with_header({}, frame_of(300));
  const GuestAddress at = bench.driver.place(packet);
  change = [&] { bench.machine.memory.fill_zero({at, 12 + 128}); };
  bench.driver.queue(1).add({{at, static_cast<std::uint32_t>(packet.size())}});
  bench.driver.kick(1);
  CHECK(bench.host().take() == packet);
}

TEST_CASE("a frame that a filter drops goes nowhere, and the filters behind are not asked") {
  std::atomic<int> asked = 0;
  NetBench bench({.filters = {[](FrameFilter::Direction, const Frame& frame) {
                                return FrameFilter::Answer{frame.bytes == 60 ? FrameFilter::Verdict::drop
                                                                             : FrameFilter::Verdict::pass};
                              },
                              [&](FrameFilter::Direction, const Frame&) {
                                ++asked;
                                return FrameFilter::Answer{};
                              }}});
  bench.give_buffers(4, 2048);
  for (const std::size_t size : {60u, 61u}) {
    CHECK(bench.transmit(with_header({}, frame_of(size))));
    bench.host().give(with_header({}, frame_of(size)));
  }
  CHECK(is_frame(bench.host().take(), frame_of(61)));
  CHECK(is_frame(bench.received(), frame_of(61)));
  CHECK(bench.count("tx_dropped_filter") == 1);
  CHECK(bench.count("rx_dropped_filter") == 1);
  CHECK(asked == 2);
}

TEST_CASE(
    "a frame that a filter holds waits for its time with all behind it, and those before are asked once") {
  std::atomic<int> before = 0;
  std::atomic<int> holds = 0;
  NetBench bench({.filters = {[&](FrameFilter::Direction, const Frame&) {
                                ++before;
                                return FrameFilter::Answer{};
                              },
                              [&](FrameFilter::Direction, const Frame& frame) {
                                if (frame.bytes != 60 || holds++ % 2 != 0) return FrameFilter::Answer{};
                                return FrameFilter::Answer{FrameFilter::Verdict::hold, 30ms};
                              }}});
  bench.give_buffers(4, 2048);
  const auto begun = std::chrono::steady_clock::now();
  bench.add_packet(with_header({}, frame_of(60)));
  CHECK(bench.transmit(with_header({}, frame_of(61))));
  CHECK(std::chrono::steady_clock::now() - begun >= 30ms);
  CHECK(is_frame(bench.host().take(), frame_of(60)));
  CHECK(is_frame(bench.host().take(), frame_of(61)));
  const auto then = std::chrono::steady_clock::now();
  bench.host().give(with_header({}, frame_of(60)));
  bench.host().give(with_header({}, frame_of(61)));
  CHECK(is_frame(bench.received(), frame_of(60)));
  CHECK(std::chrono::steady_clock::now() - then >= 30ms);
  CHECK(is_frame(bench.received(), frame_of(61)));
  CHECK(before == 4);
  CHECK(holds == 4);
}

TEST_CASE("a frame from the guest that is held at a pause is sent after it, one from the host is lost") {
  std::atomic<bool> holds = true;
  std::atomic<int> held = 0;
  NetBench bench({.filters = {[&](FrameFilter::Direction, const Frame&) {
                    if (!holds) return FrameFilter::Answer{};
                    ++held;
                    return FrameFilter::Answer{FrameFilter::Verdict::hold, 1h};
                  }}});
  bench.give_buffers(4, 2048);
  bench.add_packet(with_header({}, frame_of(60)));
  bench.driver.kick(1);
  bench.host().give(with_header({}, frame_of(61)));
  bench.host().give(with_header({}, frame_of(62)));
  while (held != 2) ::poll(nullptr, 0, 1);
  bench.driver.kick(1);
  bench.give_buffers(1, 2048);
  ::poll(nullptr, 0, 20);
  CHECK(held == 2);  // not asked before their time
  bench.driver.pause();
  holds = false;
  bench.driver.resume();
  CHECK(is_frame(bench.host().take(), frame_of(60)));
  CHECK(bench.driver.wait_used(1));
  CHECK(is_frame(bench.received(), frame_of(62)));
  CHECK(bench.count("rx_dropped_no_room") == 1);
}

TEST_CASE("buffers that no frame came for are the driver's again after a pause") {
  NetBench bench;
  bench.give_buffers(8, 2048);
  bench.host().give(with_header({}, frame_of(60)));
  CHECK(bench.received());
  auto queues = bench.device.suspend();
  REQUIRE(queues.size() == 3);
  for (const auto& each : queues) CHECK(each.queue->with_device() == 0);
  CHECK(bench.device.suspend().empty());
  bench.device.activate(~0ull, std::move(queues), bench.driver.events());
  for (unsigned i = 0; i < 7; ++i) {
    bench.host().give(with_header({}, frame_of(60, own_mac, i)));
    CHECK(is_frame(bench.received(), frame_of(60, own_mac, i)));
  }
}

TEST_CASE("a host's end that is closed takes the link down, until it is open again") {
  NetBench bench;
  bench.give_buffers(4, 2048);
  CHECK(bench.status() == status_link_up);
  bench.host().close();
  REQUIRE(wait_for(bench.driver.events().changed));
  CHECK(bench.status() == 0);
  CHECK(contains(bench.machine.logged(), "the host's end is gone"));
  CHECK(bench.transmit(with_header({}, frame_of(60))));
  CHECK(bench.counts("tx_lost_by_host", 1));
  CHECK(bench.driver.events().resets == 0);

  bench.host().reopen();
  bench.backend->set_link(true);
  CHECK((bench.status() & status_link_up) != 0);
  CHECK(bench.transmit(with_header({}, frame_of(61))));
  CHECK(is_frame(bench.host().take(), frame_of(61)));
  bench.host().give(with_header({}, frame_of(62)));
  CHECK(is_frame(bench.received(), frame_of(62)));
}

TEST_CASE("each pair in use carries frames of its own, and one that is not carries none") {
  NetBench bench({.pairs = 3});
  bench.control_queue = 6;
  for (std::size_t pair = 0; pair < 3; ++pair) bench.give_buffers(4, 2048, 2 * pair);
  const auto sends = [&](std::size_t pair) {
    const Bytes packet = with_header({}, frame_of(60, own_mac, static_cast<unsigned>(pair)));
    REQUIRE(bench.transmit(packet, {}, 2 * pair + 1));
    return bench.host(pair).take(20ms) == packet;
  };
  const auto receives = [&](std::size_t pair, std::chrono::milliseconds timeout = patience) {
    bench.host(pair).give(with_header({}, frame_of(70)));
    return bench.received(2 * pair, timeout).has_value();
  };
  CHECK(bench.backend->pairs_used == 1);
  CHECK(sends(0));
  CHECK(receives(0));
  CHECK_FALSE(sends(1));
  CHECK_FALSE(receives(2, 20ms));
  REQUIRE(bench.command_with(class_mq, mq_pairs_set, le16(2)) == control_ok);
  CHECK(bench.backend->pairs_used == 2);
  CHECK(sends(1));
  CHECK(receives(1));
  CHECK_FALSE(sends(2));
  REQUIRE(bench.command_with(class_mq, mq_pairs_set, le16(3)) == control_ok);
  CHECK(bench.received(4));  // what waited at the host
  CHECK(sends(2));
  REQUIRE(bench.command_with(class_mq, mq_pairs_set, le16(1)) == control_ok);
  CHECK_FALSE(sends(2));
  CHECK(sends(0));
  CHECK(bench.count("tx_dropped_link_down") == 3);
}

TEST_CASE("a pair with a broken ring does not keep the others from changes") {
  NetBench bench({.pairs = 2});
  bench.control_queue = 4;
  virtio::testing::FakeQueue& queue = bench.driver.queue(3);
  queue.set_available_index(static_cast<std::uint16_t>(queue.available_index() + 300));
  bench.driver.kick(3);
  REQUIRE(wait_for(bench.driver.events().broken));
  CHECK(bench.command_with(class_mq, mq_pairs_set, le16(2)) == control_ok);
  CHECK(bench.backend->pairs_used == 2);
}

TEST_CASE("frames of thousands pass in both directions, in their order") {
  NetBench bench({.filters = {[](FrameFilter::Direction, const Frame&) { return FrameFilter::Answer{}; }}});
  constexpr unsigned frames = 3000;
  bench.give_buffers(200, 256);
  const GuestAddress at = bench.driver.allocate(512);
  for (unsigned i = 0; i < frames; ++i) {
    const Bytes frame = frame_of(100, own_mac, i);
    bench.machine.memory.write_bytes(at, with_header({}, frame));
    bench.driver.queue(1).add({{at, 112}});
    bench.driver.kick(1);
    REQUIRE(is_frame(bench.host().take(), frame));
    REQUIRE(bench.driver.wait_used(1));
    bench.host().give(with_header({}, frame));
    const auto used = bench.driver.wait_used(0);
    REQUIRE(used);
    const GuestAddress buffer = bench.buffers.at({0, static_cast<std::uint16_t>(used->head)});
    Bytes packet(used->written);
    bench.machine.memory.read_bytes(buffer, packet);
    REQUIRE(is_frame(packet, frame));
    bench.buffers[{0, bench.driver.queue(0).add({{buffer, 256, true}})}] = buffer;
    bench.driver.kick(0);
  }
}

}  // namespace
}  // namespace hum
