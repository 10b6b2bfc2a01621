// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/ring_watch.h"

#include <random>
#include <set>
#include <vector>

#include "vmm/base/testing.h"
#include "vmm/virtio/fake_queue_pair.h"

namespace hum::virtio {
namespace {

using testing::data_at;
using testing::QueuePair;

// A driver and another side, which is this test, of a ring of 8 entries.
struct Rings {
  std::uint16_t offer() {
    const std::uint16_t head = pair.driver.add({{data_at, 16}});
    REQUIRE(pair.device.pop(pair.chain));
    held.insert(head);
    return head;
  }
  void answer(std::uint16_t head) {
    pair.device.push(head, 0);
    pair.device.publish();
    REQUIRE(pair.driver.take_used());
    held.erase(head);
  }
  // The heads from the used index to the last offer.
  std::multiset<std::uint16_t> next() {
    std::multiset<std::uint16_t> heads;
    for (std::uint16_t at = pair.driver.used_index(); at != pair.driver.available_index(); ++at)
      heads.insert(pair.memory.read<le16>(pair.driver.available() + 4 + 2 * (at % std::uint64_t{8})));
    return heads;
  }

  QueuePair pair{8};
  RingWatch watch{pair.memory, pair.driver.layout()};
  std::multiset<std::uint16_t> held;
};

TEST_CASE("requests that were given back out of order are put back whole, whoever is still out") {
  std::minstd_rand random(7);
  for (int run = 0; run < 200; ++run) {
    Rings rings;
    const auto steps = random() % 60;
    for (unsigned step = 0; step < steps; ++step) {
      if (rings.held.size() < 8 && (rings.held.empty() || random() % 2 == 0)) {
        rings.offer();
      } else {
        rings.answer(
            *std::next(rings.held.begin(), static_cast<std::ptrdiff_t>(random() % rings.held.size())));
        if (random() % 2 == 0) rings.watch.look();
      }
      if (step % 4 == 0) rings.watch.look();
    }
    REQUIRE(rings.watch.put_back());
    CHECK(rings.next() == rings.held);
    REQUIRE(rings.watch.put_back());
    CHECK(rings.next() == rings.held);
  }
}

TEST_CASE("a request that is stuck while another place goes round many times is put back") {
  Rings rings;
  const std::uint16_t stuck = rings.offer();
  for (int round = 0; round < 100; ++round) {
    rings.answer(rings.offer());
    rings.watch.look();
  }
  REQUIRE(rings.watch.put_back());
  CHECK(rings.next() == std::multiset<std::uint16_t>{stuck});
}

TEST_CASE("what happened behind its back is not known, until the ring was seen empty") {
  Rings rings;
  const std::uint16_t stuck = rings.offer();
  for (int round = 0; round < 9; ++round) rings.answer(rings.offer());
  CHECK_FALSE(rings.watch.put_back());
  rings.answer(rings.offer());
  CHECK_FALSE(rings.watch.put_back());
  rings.answer(stuck);
  rings.watch.look();
  const std::uint16_t next = rings.offer();
  REQUIRE(rings.watch.put_back());
  CHECK(rings.next() == std::multiset<std::uint16_t>{next});
}

TEST_CASE("requests that were there before are followed too, and rings that lie are not known") {
  Rings rings;
  rings.offer();
  rings.offer();
  RingWatch late(rings.pair.memory, rings.pair.driver.layout());
  rings.answer(*rings.held.begin());
  REQUIRE(late.put_back());
  CHECK(rings.next() == rings.held);

  rings.pair.driver.offer(8);  // no such descriptor
  CHECK_FALSE(late.put_back());
  Rings twice;
  const std::uint16_t head = twice.offer();
  twice.pair.driver.offer(head);
  twice.pair.driver.offer(head);
  CHECK_FALSE(twice.watch.put_back());
  Rings far;
  far.pair.driver.set_available_index(9);
  CHECK_FALSE(far.watch.put_back());
}

}  // namespace
}  // namespace hum::virtio
