// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/free_space.h"

#include "vmm/boot/low_memory.h"
#include "vmm/boot/testing.h"

namespace hum::boot {
namespace {

using test::Guest;

constexpr std::uint64_t mib = 1 << 20;

TEST_CASE("free space is the usable RAM above the boot structures") {
  const Guest guest(16);
  const FreeSpace space(guest.map, guest.memory);
  CHECK(space.is_free({low_memory::end, 0x9fc00 - low_memory::end.value}));
  CHECK_FALSE(space.is_free({low_memory::end, 0x9fc01 - low_memory::end.value}));
  CHECK_FALSE(space.is_free({{low_memory::end.value - 1}, 2}));
  CHECK(space.is_free({{mib}, 15 * mib}));
  CHECK_FALSE(space.is_free({{mib}, 15 * mib + 1}));
  CHECK_FALSE(space.is_free({{mib - 1}, 2}));
  CHECK_FALSE(space.is_free({{UINT64_MAX}, 2}));
  CHECK_FALSE(space.is_free({{2 * mib}, UINT64_MAX}));
  CHECK(space.low_end() == 16 * mib);
}

TEST_CASE("a usable range without RAM behind it is not free") {
  Guest guest(16);
  guest.map[3].range.size += mib;
  const FreeSpace space(guest.map, guest.memory);
  CHECK(space.is_free({{15 * mib}, mib}));
  CHECK_FALSE(space.is_free({{15 * mib}, mib + 1}));
}

TEST_CASE("what is taken is free no more, and its neighbours stay free") {
  const Guest guest(16);
  FreeSpace space(guest.map, guest.memory);
  space.take({{4 * mib}, mib});
  CHECK(space.is_free({{mib}, 3 * mib}));
  CHECK_FALSE(space.is_free({{mib}, 3 * mib + 1}));
  CHECK_FALSE(space.is_free({{5 * mib - 1}, 1}));
  CHECK(space.is_free({{5 * mib}, 11 * mib}));
  CHECK(space.taken_end() == 5 * mib);
  space.take({{4 * mib}, mib});
  CHECK(space.is_free({{mib}, 3 * mib}));
}

TEST_CASE("the highest place ends at the limit and skips what is taken") {
  const Guest guest(16);
  FreeSpace space(guest.map, guest.memory);
  CHECK(space.highest(mib, 4096, 16 * mib) == GuestAddress{15 * mib});
  CHECK(space.highest(mib + 1, 4096, 16 * mib) == GuestAddress{15 * mib - 4096});
  CHECK(space.highest(mib, 4096, 8 * mib) == GuestAddress{7 * mib});
  space.take({{7 * mib}, mib});
  CHECK(space.highest(mib, 4096, 8 * mib) == GuestAddress{6 * mib});
  CHECK(space.highest(8 * mib, 4096, UINT64_MAX) == GuestAddress{8 * mib});
  CHECK_FALSE(space.highest(8 * mib + 1, 4096, UINT64_MAX));
  CHECK_FALSE(space.highest(UINT64_MAX, 4096, UINT64_MAX));
}

TEST_CASE("the lowest place begins at the bound, aligned") {
  const Guest guest(16);
  FreeSpace space(guest.map, guest.memory);
  CHECK(space.lowest(mib, 4096, mib) == GuestAddress{mib});
  CHECK(space.lowest(mib, 2 * mib, mib) == GuestAddress{2 * mib});
  CHECK(space.lowest(14 * mib, 2 * mib, mib) == GuestAddress{2 * mib});
  CHECK_FALSE(space.lowest(14 * mib + 1, 2 * mib, mib));
  space.take({{mib}, 1});
  CHECK(space.lowest(mib, 4096, mib) == GuestAddress{mib + 4096});
}

}  // namespace
}  // namespace hum::boot
