// SPDX-License-Identifier: Apache-2.0
#include "devices/vhost_user/ring_order.h"

#include <array>

#include "vmm/base/testing.h"
#include "vmm/virtio/fake_driver.h"

namespace hum {
namespace {

using virtio::testing::FakeQueue;

// A ring of 8 whose other side answers whatever it is told to.
struct Rings {
  GuestMemory memory{std::array{GuestRange{GuestAddress{0}, 1 << 16}}};
  FakeQueue queue{memory, GuestAddress{0}, 8};
  std::uint16_t used = 0;

  std::uint16_t offer() { return queue.add({{GuestAddress{0x8000}, 16}}); }
  void answer(std::uint16_t head) {
    const GuestAddress at = queue.used() + (4 + 8 * (used % 8u));
    memory.write(at, le32(head));
    memory.write(at + 4, le32(0));
    memory.store_release<std::uint16_t>(queue.used() + 2, ++used);
    queue.take_used();
  }
  bool in_order() const { return answered_in_order(memory, queue.layout(), 0); }
};

}  // namespace

TEST_CASE(
    "a ring whose oldest requests are answered can go on from its used index, any number of times round") {
  Rings rings;
  CHECK(rings.in_order());
  std::array<std::uint16_t, 3> heads{};
  for (int round = 0; round < 20; ++round) {
    for (auto& head : heads) head = rings.offer();
    CHECK(rings.in_order());
    rings.answer(heads[0]);
    CHECK(rings.in_order());
    rings.answer(heads[1]);
    CHECK(rings.in_order());
    rings.answer(heads[2]);
    CHECK(rings.in_order());
  }
}

TEST_CASE("answers in another order are seen, and forgotten when the oldest is answered too") {
  for (int before = 0; before < 12; ++before) {
    Rings rings;
    for (int i = 0; i < before; ++i) rings.answer(rings.offer());
    const std::uint16_t oldest = rings.offer();
    const std::uint16_t next = rings.offer();
    rings.answer(next);
    CHECK_FALSE(rings.in_order());
    const std::uint16_t last = rings.offer();
    CHECK_FALSE(rings.in_order());
    rings.answer(oldest);
    CHECK(rings.in_order());
    rings.answer(last);
    CHECK(rings.in_order());
  }
}

TEST_CASE("a full ring in which a request stands twice was answered in another order") {
  Rings rings;
  std::array<std::uint16_t, 8> heads{};
  for (auto& head : heads) head = rings.offer();
  CHECK(rings.in_order());
  rings.answer(heads[5]);
  rings.queue.offer(heads[5]);
  CHECK_FALSE(rings.in_order());
}

TEST_CASE("an available index too far ahead is no order") {
  Rings rings;
  rings.queue.set_available_index(9);
  CHECK_FALSE(rings.in_order());
}

}  // namespace hum
