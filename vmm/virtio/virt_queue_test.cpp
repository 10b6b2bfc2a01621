// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/virt_queue.h"

#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "vmm/base/errors.h"
#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

namespace hum::virtio {
namespace {

using testing::Buffer;
using testing::descriptor_indirect;
using testing::descriptor_next;
using testing::descriptor_write;
using testing::FakeQueue;
using testing::UsedElement;

constexpr std::uint64_t mib = 1 << 20;
constexpr GuestAddress ring_at{0x10000};
constexpr GuestAddress table_at{2 * mib};
constexpr GuestAddress data_at{3 * mib};
constexpr GuestAddress end_of_ram{4 * mib};

// A driver's queue and the device's side of it over the same memory.
struct Pair {
  explicit Pair(std::uint16_t size, bool event_idx = false, bool indirect = true)
      : driver(memory, ring_at, size),
        device(memory, driver.layout(event_idx, indirect), [this] { ++interrupts; }) {}

  // One request through the queue and back.
  void round_trip() {
    driver.add({{data_at, 16}});
    REQUIRE(device.pop(chain));
    device.push(chain.head, 0);
    device.publish();
    REQUIRE(driver.take_used());
  }

  GuestMemory memory{std::vector<GuestRange>{{{0}, end_of_ram.value}}};
  FakeQueue driver;
  unsigned interrupts = 0;
  VirtQueue device;
  DescriptorChain chain;
};

TEST_CASE("a request arrives with its buffers in order and goes back with its length") {
  Pair pair(8);
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

TEST_CASE("requests may be given back in another order") {
  Pair pair(4);
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
  const std::uint16_t size =
      GENERATE(std::uint16_t{1}, std::uint16_t{2}, std::uint16_t{256}, std::uint16_t{32768});
  const bool event_idx = GENERATE(false, true);
  Pair pair(size, event_idx);
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
  Pair pair(size);
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
  Pair pair(32768);
  std::vector<Buffer> buffers(32768, Buffer{data_at, 16});
  pair.driver.add(buffers);
  REQUIRE(pair.device.pop(pair.chain));
  CHECK(pair.chain.readable.size() == 32768);
}

TEST_CASE("empty buffers are skipped wherever they point") {
  Pair pair(4);
  pair.driver.add({{{~0ull}, 0}, {data_at, 16, true}, {{~0ull}, 0, true}});
  REQUIRE(pair.device.pop(pair.chain));
  CHECK(pair.chain.readable.empty());
  CHECK(pair.chain.writable.size() == 1);
}

TEST_CASE("buffers reach to the last byte of memory and not beyond") {
  Pair pair(4);
  SECTION("last byte") {
    pair.driver.add({{{end_of_ram.value - 16}, 16}});
    CHECK(pair.device.pop(pair.chain));
  }
  SECTION("one byte more") {
    pair.driver.add({{{end_of_ram.value - 16}, 17}});
    CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
  }
  SECTION("outside") {
    pair.driver.add({{end_of_ram, 1}});
    CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
  }
  SECTION("a range that wraps round") {
    pair.driver.add({{{~0ull - 7}, 16}});
    CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
  }
  SECTION("the largest length") {
    pair.driver.add({{data_at, 0xffffffff, true}});
    CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
  }
}

TEST_CASE("a buffer may cross from one region to the next") {
  const GuestMemory memory(std::vector<GuestRange>{{{0}, mib}, {{mib}, mib}});
  FakeQueue driver(memory, ring_at, 4);
  VirtQueue device(memory, driver.layout(), [] {});
  DescriptorChain chain;
  driver.add({{{mib - 8}, 24}});
  REQUIRE(device.pop(chain));
  CHECK(chain.readable_bytes == 24);
  driver.add_indirect({mib - 16},
                      {{data_at.value > 0 ? GuestAddress{0x1000} : data_at, 8}, {{0x2000}, 8, true}});
  REQUIRE(device.pop(chain));
  CHECK(chain.readable_bytes == 8);
  CHECK(chain.writable_bytes == 8);
}

TEST_CASE("a chain has at most 4 GiB in all") {
  // The same 2 MiB again and again: the driver may not, but nothing else stops it.
  Pair pair(4096);
  std::vector<Buffer> buffers(2048, Buffer{{mib}, 2 * mib});
  SECTION("4 GiB") {
    pair.driver.add(buffers);
    REQUIRE(pair.device.pop(pair.chain));
    CHECK(pair.chain.readable_bytes == 1ull << 32);
  }
  SECTION("one byte more") {
    buffers.push_back({data_at, 1, true});
    pair.driver.add(buffers);
    CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
  }
}

TEST_CASE("broken chains are errors") {
  Pair pair(4);
  FakeQueue& driver = pair.driver;
  SECTION("a head beyond the queue") {
    driver.offer(4);
  }
  SECTION("the largest head") {
    driver.offer(0xffff);
  }
  SECTION("a successor beyond the queue") {
    driver.set_descriptor(0, data_at, 16, descriptor_next, 4);
    driver.offer(0);
  }
  SECTION("a descriptor that follows itself") {
    driver.set_descriptor(0, data_at, 16, descriptor_next, 0);
    driver.offer(0);
  }
  SECTION("a loop over all descriptors") {
    for (std::uint16_t index = 0; index < 4; ++index)
      driver.set_descriptor(index, data_at, 16, descriptor_next | descriptor_write,
                            static_cast<std::uint16_t>((index + 1) % 4));
    driver.offer(2);
  }
  SECTION("a loop of empty buffers") {
    driver.set_descriptor(0, data_at, 0, descriptor_next, 1);
    driver.set_descriptor(1, data_at, 0, descriptor_next, 0);
    driver.offer(0);
  }
  SECTION("a readable buffer after a writable one") {
    driver.add({{data_at, 16, true}, {data_at, 16}});
  }
  CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
}

TEST_CASE("an indirect table holds a whole request") {
  Pair pair(4);
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

TEST_CASE("broken indirect tables are errors") {
  Pair pair(4);
  FakeQueue& driver = pair.driver;
  const auto offer_table = [&](GuestAddress at, std::uint32_t bytes, std::uint16_t flags = 0) {
    driver.set_descriptor(0, at, bytes, static_cast<std::uint16_t>(descriptor_indirect | flags), 1);
    driver.offer(0);
  };
  driver.write_descriptor(table_at, data_at, 16, 0, 0);
  SECTION("of no bytes") {
    offer_table(table_at, 0);
  }
  SECTION("of 15 bytes") {
    offer_table(table_at, 15);
  }
  SECTION("of 17 bytes") {
    offer_table(table_at, 17);
  }
  SECTION("longer than the queue") {
    offer_table(table_at, 5 * 16);
  }
  SECTION("of 4 GiB") {
    offer_table(table_at, 0xfffffff0);
  }
  SECTION("with a successor") {
    offer_table(table_at, 16, descriptor_next);
  }
  SECTION("at the end of memory") {
    offer_table({end_of_ram.value - 16}, 32);
  }
  SECTION("that wraps round") {
    offer_table({~0ull - 15}, 32);
  }
  SECTION("inside another") {
    driver.write_descriptor(table_at, table_at, 16, descriptor_indirect, 0);
    offer_table(table_at, 16);
  }
  SECTION("with a loop") {
    driver.write_descriptor(table_at, data_at, 16, descriptor_next, 0);
    offer_table(table_at, 64);
  }
  SECTION("with a successor beyond the table") {
    driver.write_descriptor(table_at, data_at, 16, descriptor_next, 1);
    offer_table(table_at, 16);
  }
  SECTION("with the wrong order") {
    driver.write_descriptor(table_at, data_at, 16, descriptor_next | descriptor_write, 1);
    driver.write_descriptor(table_at + 16, data_at, 16, 0, 0);
    offer_table(table_at, 32);
  }
  SECTION("that makes the chain longer than the queue") {
    driver.set_descriptor(1, data_at, 16, descriptor_next, 0);
    driver.set_descriptor(0, table_at, 64, descriptor_indirect, 0);
    driver.offer(1);
  }
  CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
}

TEST_CASE("an indirect table that was not negotiated is an error") {
  Pair pair(4, false, false);
  pair.driver.add_indirect(table_at, {{data_at, 16}});
  CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
}

TEST_CASE("the driver's index is at most the queue's size ahead of what it got back") {
  Pair pair(4);
  SECTION("from the start") {
    pair.driver.set_available_index(4);
    CHECK(pair.device.pop(pair.chain));
  }
  SECTION("one too many") {
    pair.driver.set_available_index(5);
    CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
    CHECK_THROWS_AS(pair.device.enable_kicks(), GuestError);
  }
  SECTION("with one request in flight") {
    pair.driver.set_available_index(1);
    REQUIRE(pair.device.pop(pair.chain));
    pair.driver.set_available_index(5);
    CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
  }
  SECTION("backwards") {
    pair.driver.set_available_index(2);
    REQUIRE(pair.device.pop(pair.chain));
    REQUIRE(pair.device.pop(pair.chain));
    pair.driver.set_available_index(1);
    CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
  }
}

TEST_CASE("rings must be aligned, whole in memory, and of a valid size") {
  const GuestMemory memory(std::vector<GuestRange>{{{0}, mib}, {{2 * mib}, mib}});
  const QueueLayout good{16, {0x1000}, {0x2000}, {0x3000}};
  const auto make = [&](QueueLayout layout) { return std::make_unique<VirtQueue>(memory, layout, [] {}); };
  CHECK(make(good)->layout().size == 16);
  QueueLayout layout = good;
  SECTION("descriptors by 16") {
    layout.descriptors = {0x1008};
  }
  SECTION("available ring by 2") {
    layout.available = {0x2001};
  }
  SECTION("used ring by 4") {
    layout.used = {0x3002};
  }
  SECTION("descriptors over the end of a region") {
    layout.descriptors = {mib - 16 * 16 + 16};
  }
  SECTION("available ring over the end") {
    layout.available = {mib - 6 - 2 * 16 + 2};
  }
  SECTION("used ring over the end") {
    layout.used = {3 * mib - 128};
  }
  SECTION("outside") {
    layout.used = {mib};
  }
  SECTION("wrapping") {
    layout.descriptors = {~0ull - 15};
  }
  SECTION("size 0") {
    layout.size = 0;
  }
  SECTION("size 3") {
    layout.size = 3;
  }
  SECTION("size 49152") {
    layout.size = 49152;
  }
  CHECK_THROWS_AS(make(layout), GuestError);
}

TEST_CASE("rings may end with the last byte of memory") {
  const GuestMemory memory(std::vector<GuestRange>{{{0}, mib}});
  const VirtQueue first(memory, {16, {mib - 256}, {0x2000}, {0x3000}}, [] {});
  const VirtQueue second(memory, {16, {0x1000}, {mib - 6 - 32}, {0x3000}}, [] {});
  const VirtQueue third(memory, {1, {0x1000}, {0x2000}, {mib - 16}}, [] {});
  CHECK(third.layout().used == GuestAddress{mib - 16});
}

TEST_CASE("undo_pop gives the same request again") {
  Pair pair(4);
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

TEST_CASE("without EVENT_IDX the flags decide about interrupts and kicks") {
  Pair pair(4);
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
  Pair pair(8, true);
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
  Pair pair(8, true);
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

TEST_CASE("drain handles all requests, publishes once and turns kicks on again") {
  const bool event_idx = GENERATE(false, true);
  Pair pair(8, event_idx);
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

TEST_CASE("random rings end in a request or an error, never anything else") {
  const GuestMemory memory(std::vector<GuestRange>{{{0}, end_of_ram.value}});
  std::mt19937 random(1);
  unsigned requests = 0;
  unsigned errors = 0;
  for (unsigned round = 0; round < 5000; ++round) {
    FakeQueue driver(memory, ring_at, 8);
    VirtQueue device(memory, driver.layout(), [] {});
    DescriptorChain chain;
    for (std::uint16_t index = 0; index < 8; ++index) {
      const GuestAddress at{(random() & 7) == 0 ? random() * 0x100000001ull
                                                : data_at.value + random() % 256 * 16};
      const auto flags = static_cast<std::uint16_t>(random() & 7);
      driver.set_descriptor(index, at, random() % 512, flags, static_cast<std::uint16_t>(random() % 9));
      driver.write_descriptor(data_at + 16 * std::uint64_t{index}, at, random() % 64, flags & 3,
                              static_cast<std::uint16_t>(random() % 9));
    }
    driver.offer(static_cast<std::uint16_t>(random() % 9));
    try {
      REQUIRE(device.pop(chain));
      ++requests;
      std::uint64_t sum = 0;
      for (const iovec& part : chain.readable) sum += part.iov_len;
      REQUIRE(sum == chain.readable_bytes);
    } catch (const GuestError&) {
      ++errors;
    }
  }
  CHECK(requests > 100);
  CHECK(errors > 100);
}

}  // namespace
}  // namespace hum::virtio
