// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/virt_queue.h"

#include <thread>
#include <vector>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_queue_pair.h"

namespace hum::virtio {
namespace {

using testing::Buffer;
using testing::data_at;
using testing::descriptor_indirect;
using testing::descriptor_next;
using testing::descriptor_write;
using testing::end_of_ram;
using testing::FakeQueue;
using testing::mib;
using testing::QueuePair;
using testing::ring_at;
using testing::table_at;
using testing::UsedElement;

TEST_CASE("a request arrives with its buffers in order and goes back with its length") {
  QueuePair pair(8);
  CHECK_FALSE(pair.device.pop(pair.chain));
  const std::uint16_t head = pair.driver.add(
      {{data_at, 16}, {data_at + 4096, 100}, {data_at + 8192, 512, true}, {data_at, 1, true}});
  REQUIRE(pair.device.pop(pair.chain));
  CHECK(pair.chain.head == head);
  REQUIRE(pair.chain.readable.size() == 2);
  REQUIRE(pair.chain.writable.size() == 2);
  CHECK(pair.chain.readable_bytes == 116);
  CHECK(pair.chain.writable_bytes == 513);
  std::byte* const ram = pair.memory.regions().front().host;
  CHECK(pair.chain.readable[1].iov_base == ram + data_at.value + 4096);
  CHECK(pair.chain.readable[1].iov_len == 100);
  CHECK(pair.chain.writable[0].iov_base == ram + data_at.value + 8192);

  pair.device.push(head, 42);
  CHECK_FALSE(pair.driver.take_used());
  CHECK(pair.interrupts == 0);
  pair.device.publish();
  CHECK(pair.driver.take_used() == UsedElement{head, 42});
  CHECK(pair.interrupts == 1);
  pair.device.publish();
  CHECK(pair.interrupts == 1);
  CHECK_FALSE(pair.device.pop(pair.chain));
}

TEST_CASE("what goes through a queue is counted, one that was undone only when it comes again") {
  QueuePair pair(8);
  QueueCounters counters;
  pair.device.count_in(counters);
  const std::uint16_t head = pair.driver.add({{data_at, 16}, {data_at + 4096, 100, true}});
  REQUIRE(pair.device.pop(pair.chain));
  pair.device.undo_pop();
  CHECK(counters.bytes_from_guest.get() == 0);
  REQUIRE(pair.device.pop(pair.chain));
  pair.device.push(head, 42);
  CHECK(counters.interrupts.get() == 0);
  pair.device.publish();
  pair.device.publish();
  CHECK(counters.requests.get() == 1);
  CHECK(counters.bytes_from_guest.get() == 16);
  CHECK(counters.bytes_to_guest.get() == 42);
  CHECK(counters.interrupts.get() == 1);
}

TEST_CASE("requests may be given back in another order") {
  QueuePair pair(4);
  const std::uint16_t first = pair.driver.add({{data_at, 16}});
  const std::uint16_t second = pair.driver.add({{data_at, 16}});
  REQUIRE(pair.device.pop(pair.chain));
  REQUIRE(pair.device.pop(pair.chain));
  pair.device.push(second, 2);
  pair.device.push(first, 1);
  pair.device.publish();
  CHECK(pair.interrupts == 1);
  CHECK(pair.driver.take_used() == UsedElement{second, 2});
  CHECK(pair.driver.take_used() == UsedElement{first, 1});
}

TEST_CASE("indices wrap after 65536 requests for every kind of queue size") {
  const std::uint16_t size = GENERATE(std::uint16_t{1}, std::uint16_t{256}, std::uint16_t{32768});
  const bool event_idx = GENERATE(false, true);
  QueuePair pair(size, event_idx);
  for (std::uint32_t round = 0; round < 70000; ++round) {
    const std::uint16_t head = pair.driver.add({{data_at, 16}});
    if (!pair.device.pop(pair.chain) || pair.chain.head != head) FAIL("request " << round << " is lost");
    pair.device.push(head, round);
    pair.device.publish();
    if (pair.driver.take_used() != UsedElement{head, round}) FAIL("answer " << round << " is lost");
  }
  CHECK(pair.device.next_available() == 70000 - 65536);
  CHECK(pair.device.next_used() == 70000 - 65536);
}

TEST_CASE("a queue can be full in every size") {
  const std::uint16_t size = GENERATE(std::uint16_t{1}, std::uint16_t{2}, std::uint16_t{32768});
  QueuePair pair(size);
  std::vector<std::uint16_t> heads;
  for (std::uint32_t count = 0; count < size; ++count) pair.driver.add({{data_at, 16}});
  while (pair.device.pop(pair.chain)) heads.push_back(pair.chain.head);
  CHECK(heads.size() == size);
  for (const std::uint16_t head : heads) pair.device.push(head, 0);
  pair.device.publish();
  std::size_t taken = 0;
  while (pair.driver.take_used()) ++taken;
  CHECK(taken == size);
}

TEST_CASE("one chain may use the whole queue") {
  QueuePair pair(32768);
  std::vector<Buffer> buffers(32768, Buffer{data_at, 16});
  pair.driver.add(buffers);
  REQUIRE(pair.device.pop(pair.chain));
  CHECK(pair.chain.readable.size() == 32768);
}

TEST_CASE("empty buffers are skipped wherever they point") {
  QueuePair pair(4);
  pair.driver.add({{{~0ull}, 0}, {data_at, 16, true}, {{~0ull}, 0, true}});
  REQUIRE(pair.device.pop(pair.chain));
  CHECK(pair.chain.readable.empty());
  CHECK(pair.chain.writable.size() == 1);
}

TEST_CASE("a buffer may cross from one region to the next") {
  const GuestMemory memory(std::vector<GuestRange>{{{0}, mib}, {{mib}, mib}});
  FakeQueue driver(memory, ring_at, 4);
  VirtQueue device(memory, driver.layout(), [] {});
  DescriptorChain chain;
  driver.add({{{mib - 8}, 24}});
  REQUIRE(device.pop(chain));
  CHECK(chain.readable_bytes == 24);
  driver.add_indirect({mib - 16}, {{{0x1000}, 8}, {{0x2000}, 8, true}});
  REQUIRE(device.pop(chain));
  CHECK(chain.readable_bytes == 8);
  CHECK(chain.writable_bytes == 8);
}

TEST_CASE("an indirect table holds a whole request") {
  QueuePair pair(4);
  SECTION("as many buffers as the queue has entries") {
    const std::uint16_t head = pair.driver.add_indirect(
        table_at, {{data_at, 16}, {data_at, 1}, {data_at, 512, true}, {data_at + 600, 1, true}});
    REQUIRE(pair.device.pop(pair.chain));
    CHECK(pair.chain.head == head);
    CHECK(pair.chain.readable_bytes == 17);
    CHECK(pair.chain.writable_bytes == 513);
  }
  SECTION("at any address") {
    pair.driver.add_indirect(table_at + 3, {{data_at, 16}, {data_at, 1, true}});
    REQUIRE(pair.device.pop(pair.chain));
    CHECK(pair.chain.writable_bytes == 1);
  }
  SECTION("with more entries than are used") {
    pair.driver.write_descriptor(table_at, data_at, 16, 0, 0);
    pair.driver.set_descriptor(0, table_at, 64, descriptor_indirect, 0);
    pair.driver.offer(0);
    REQUIRE(pair.device.pop(pair.chain));
    CHECK(pair.chain.readable_bytes == 16);
  }
  SECTION("after direct descriptors, and whether or not it is marked writable") {
    pair.driver.write_descriptor(table_at, data_at, 16, descriptor_next, 1);
    pair.driver.write_descriptor(table_at + 16, data_at, 16, descriptor_write, 0);
    pair.driver.set_descriptor(2, data_at, 8, descriptor_next, 3);
    pair.driver.set_descriptor(3, table_at, 32, descriptor_indirect | descriptor_write, 0);
    pair.driver.offer(2);
    REQUIRE(pair.device.pop(pair.chain));
    CHECK(pair.chain.readable_bytes == 24);
    CHECK(pair.chain.writable_bytes == 16);
  }
}

TEST_CASE("rings may end with the last byte of memory") {
  const GuestMemory memory(std::vector<GuestRange>{{{0}, mib}});
  const VirtQueue first(memory, {16, {mib - 256}, {0x2000}, {0x3000}}, [] {});
  const VirtQueue second(memory, {16, {0x1000}, {mib - 6 - 32}, {0x3000}}, [] {});
  const VirtQueue third(memory, {1, {0x1000}, {0x2000}, {mib - 16}}, [] {});
  CHECK(third.layout().used == GuestAddress{mib - 16});
}

TEST_CASE("undo_pop gives the same request again") {
  QueuePair pair(4);
  const std::uint16_t first = pair.driver.add({{data_at, 16}});
  const std::uint16_t second = pair.driver.add({{data_at, 32}});
  REQUIRE(pair.device.pop(pair.chain));
  pair.device.undo_pop();
  REQUIRE(pair.device.pop(pair.chain));
  CHECK(pair.chain.head == first);
  CHECK(pair.chain.readable_bytes == 16);
  REQUIRE(pair.device.pop(pair.chain));
  CHECK(pair.chain.head == second);
  pair.device.undo_pop();
  CHECK(pair.device.next_available() == 1);
  REQUIRE(pair.device.pop(pair.chain));
  CHECK(pair.chain.head == second);
  CHECK_FALSE(pair.device.pop(pair.chain));
}

TEST_CASE("several requests are returned unused, the last one first, and are not counted") {
  QueuePair pair(4);
  std::vector<DescriptorChain> chains(3);
  for (DescriptorChain& each : chains) {
    pair.driver.add({{data_at, 16}});
    REQUIRE(pair.device.pop(each));
  }
  pair.device.push(chains[0].head, 0);
  pair.device.undo_pop(chains[2]);
  pair.device.undo_pop(chains[1]);
  CHECK(pair.device.with_device() == 0);
  CHECK(pair.device.counters().bytes_from_guest.get() == 16);
  for (const std::size_t number : {1u, 2u}) {
    REQUIRE(pair.device.pop(pair.chain));
    CHECK(pair.chain.head == chains[number].head);
  }
  CHECK_FALSE(pair.device.pop(pair.chain));
  CHECK(pair.device.counters().bytes_from_guest.get() == 48);
}

TEST_CASE("without EVENT_IDX the flags decide about interrupts and kicks") {
  QueuePair pair(4);
  pair.driver.set_available_flags(1);
  pair.round_trip();
  CHECK(pair.interrupts == 0);
  pair.driver.set_available_flags(0);
  pair.round_trip();
  CHECK(pair.interrupts == 1);

  pair.device.disable_kicks();
  CHECK(pair.driver.used_flags() == 1);
  CHECK_FALSE(pair.device.enable_kicks());
  CHECK(pair.driver.used_flags() == 0);
  pair.driver.add({{data_at, 16}});
  CHECK(pair.device.enable_kicks());
}

TEST_CASE("with EVENT_IDX an interrupt comes exactly when used_event is passed") {
  QueuePair pair(8, true);
  // Across the wrap of the 16-bit index.
  pair.driver.set_used_event(0xffff - 1);
  for (unsigned round = 0; round < 65534; ++round) pair.round_trip();
  CHECK(pair.interrupts == 0);
  pair.round_trip();  // element 65534
  CHECK(pair.interrupts == 1);
  pair.round_trip();
  pair.round_trip();
  CHECK(pair.interrupts == 1);
  pair.driver.set_used_event(3);  // elements 1, 2, 3, 4 in one batch
  const auto batch = [&](unsigned count) {
    for (unsigned each = 0; each < count; ++each) {
      pair.driver.add({{data_at, 16}});
      REQUIRE(pair.device.pop(pair.chain));
      pair.device.push(pair.chain.head, 0);
    }
    pair.device.publish();
    while (pair.driver.take_used()) {
    }
  };
  batch(2);
  CHECK(pair.interrupts == 1);
  batch(4);  // 3, 4, 5, 6
  CHECK(pair.interrupts == 2);
  pair.driver.set_used_event(6);  // was published already
  batch(1);
  CHECK(pair.interrupts == 2);
  pair.driver.set_used_event(8);
  batch(1);
  CHECK(pair.interrupts == 3);
  // The flag means nothing with EVENT_IDX.
  pair.driver.set_available_flags(1);
  pair.driver.set_used_event(9);
  batch(1);
  CHECK(pair.interrupts == 4);
}

TEST_CASE("with EVENT_IDX avail_event asks for the next request") {
  QueuePair pair(8, true);
  CHECK_FALSE(pair.device.enable_kicks());
  CHECK(pair.driver.avail_event() == 0);
  for (unsigned round = 0; round < 65537; ++round) pair.round_trip();
  CHECK(pair.driver.avail_event() == 0);
  pair.device.disable_kicks();
  CHECK(pair.driver.used_flags() == 0);
  CHECK_FALSE(pair.device.enable_kicks());
  CHECK(pair.driver.avail_event() == 1);
  pair.driver.add({{data_at, 16}});
  CHECK(pair.device.enable_kicks());
  CHECK(pair.driver.avail_event() == 1);
}

TEST_CASE("with EVENT_IDX kicks that are turned off ask for a request that is there already") {
  QueuePair pair(8, true);
  CHECK_FALSE(pair.device.enable_kicks());
  REQUIRE(pair.driver.avail_event() == 0);
  pair.device.disable_kicks();
  CHECK(pair.driver.avail_event() == 0xffff);
  CHECK_FALSE(pair.device.enable_kicks());
  CHECK(pair.driver.avail_event() == 0);
}

TEST_CASE("drain handles all requests, publishes once and turns kicks on again") {
  const bool event_idx = GENERATE(false, true);
  QueuePair pair(8, event_idx);
  pair.driver.set_used_event(0);
  for (unsigned count = 0; count < 5; ++count) pair.driver.add({{data_at, 16}});
  unsigned handled = 0;
  SECTION("to the end") {
    pair.device.drain(pair.chain, [&](DescriptorChain& chain) {
      // One more arrives while the first is served.
      if (handled++ == 0) pair.driver.add({{data_at, 16}});
      pair.device.push(chain.head, 0);
      return true;
    });
    CHECK(handled == 6);
    CHECK(pair.interrupts == 1);
    CHECK(pair.driver.used_index() == 6);
    CHECK(pair.driver.used_flags() == 0);
    if (event_idx) CHECK(pair.driver.avail_event() == 6);
  }
  SECTION("until there is no room") {
    pair.device.drain(pair.chain, [&](DescriptorChain& chain) {
      if (handled == 2) {
        pair.device.undo_pop();
        return false;
      }
      ++handled;
      pair.device.push(chain.head, 0);
      return true;
    });
    CHECK(pair.driver.used_index() == 2);
    CHECK(pair.interrupts == 1);
    CHECK(pair.driver.used_flags() == (event_idx ? 0 : 1));
    CHECK(pair.device.next_available() == 2);
  }
}

TEST_CASE("no kick and no interrupt is lost between two threads") {
  const bool event_idx = GENERATE(false, true);
  const GuestMemory memory(std::vector<GuestRange>{{{0}, end_of_ram.value}});
  FakeQueue driver(memory, ring_at, 8);
  EventFd kick;
  EventFd interrupt;
  constexpr unsigned total = 20000;

  std::thread device_thread([&] {
    VirtQueue device(memory, driver.layout(event_idx), [&] { interrupt.signal(); });
    DescriptorChain chain;
    unsigned served = 0;
    while (true) {
      device.drain(chain, [&](DescriptorChain& request) {
        device.push(request.head, served++);
        return true;
      });
      if (served == total || !testing::wait_for(kick)) return;
    }
  });
  unsigned sent = 0;
  unsigned received = 0;
  while (received < total) {
    while (sent < total && sent - received < 8) {
      const auto before = driver.available_index();
      driver.add({{data_at, 16}});
      ++sent;
      // 2.7.10: the driver's decision to kick.
      const bool wanted = event_idx ? driver.avail_event() == before : (driver.used_flags() & 1) == 0;
      if (wanted) kick.signal();
    }
    driver.set_used_event(static_cast<std::uint16_t>(received));
    const unsigned before = received;
    while (const auto element = driver.take_used()) {
      if (element->written != received) FAIL("answer " << received << " is out of order");
      ++received;
    }
    if (received == before && !testing::wait_for(interrupt)) break;
  }
  kick.signal();
  device_thread.join();
  CHECK(received == total);
}

TEST_CASE("a queue goes on at the position where another one was handed back") {
  QueuePair pair(8);
  for (int i = 0; i < 3; ++i) {
    pair.driver.add({{data_at, 16, true}});
    REQUIRE(pair.device.pop(pair.chain));
    pair.device.push(pair.chain.head, 1);
    pair.device.publish();
    CHECK(pair.driver.take_used());
  }
  unsigned interrupts = 0;
  VirtQueue next(pair.memory, pair.device.layout(), [&] { ++interrupts; }, pair.device.next_available());
  CHECK(next.next_available() == 3);
  CHECK(next.next_used() == 3);
  DescriptorChain chain;
  CHECK_FALSE(next.pop(chain));
  const std::uint16_t head = pair.driver.add({{data_at, 16, true}});
  REQUIRE(next.pop(chain));
  CHECK(chain.head == head);
  next.push(head, 5);
  next.publish();
  CHECK(interrupts == 1);
  CHECK(pair.driver.take_used() == UsedElement{head, 5});
}

TEST_CASE("a queue goes on with the requests that the one before had with the device") {
  QueuePair pair(4);
  std::uint16_t heads[4];
  for (std::uint16_t& head : heads) {
    head = pair.driver.add({{data_at, 16}});
    REQUIRE(pair.device.pop(pair.chain));
  }
  pair.device.push(heads[1], 0);
  pair.device.publish();
  CHECK(pair.device.with_device() == 3);
  VirtQueue next(pair.memory, pair.driver.layout(), [] {}, pair.device.next_available(), 3);
  CHECK(next.with_device() == 3);
  CHECK(pair.driver.take_used()->head == heads[1]);
  pair.driver.set_descriptor(heads[2], data_at, 99, 0, 0);  // the driver may change its mind
  next.pop_again(heads[2], pair.chain);
  CHECK(pair.chain.head == heads[2]);
  CHECK(pair.chain.readable_bytes == 99);
  CHECK_FALSE(next.pop(pair.chain));
  for (const int at : {2, 0, 3}) next.push(heads[at], 7);
  next.publish();
  for (const int at : {2, 0, 3}) CHECK(pair.driver.take_used() == UsedElement{heads[at], 7});
  CHECK(next.with_device() == 0);
  const std::uint16_t head = pair.driver.add({{data_at, 16}});
  REQUIRE(next.pop(pair.chain));
  CHECK(pair.chain.head == head);
  CHECK_THROWS_AS(VirtQueue(pair.memory, pair.driver.layout(), [] {}, 9, 5), GuestError);
  CHECK_THROWS_AS(next.pop_again(4, pair.chain), GuestError);
}

}  // namespace
}  // namespace hum::virtio
