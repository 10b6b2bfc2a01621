// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/virt_queue.h"

#include <memory>
#include <random>
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

TEST_CASE("buffers reach to the last byte of memory and not beyond") {
  QueuePair pair(4);
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

TEST_CASE("a chain has at most 4 GiB in all") {
  // The same 2 MiB again and again: the driver may not, but nothing else stops it.
  QueuePair pair(4096);
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
  QueuePair pair(4);
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

TEST_CASE("broken indirect tables are errors") {
  QueuePair pair(4);
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
  QueuePair pair(4, false, false);
  pair.driver.add_indirect(table_at, {{data_at, 16}});
  CHECK_THROWS_AS(pair.device.pop(pair.chain), GuestError);
}

TEST_CASE("the driver's index is at most the queue's size ahead of what it got back") {
  QueuePair pair(4);
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
      if (!device.pop(chain)) FAIL("a request is lost");
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
