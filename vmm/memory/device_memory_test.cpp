// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/device_memory.h"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

constexpr std::uint64_t mib = 1 << 20;
constexpr std::uint64_t page = 4096;
constexpr GuestAddress first{mib};

struct NoSlots final : MemorySlots {
  std::uint32_t add(GuestRange, std::byte*, bool) override { return 0; }
  void remove(std::uint32_t) override {}
};

// A machine with 1 MiB of RAM, and memory of devices right behind it.
struct World {
  explicit World(GuestMemory&& left = GuestMemory(std::array{GuestRange{{0}, mib}}))
      : memory(std::move(left)) {}

  MemoryRegion place(DeviceMemory::Request request) {
    request.key = "some.option";
    if (request.alignment == 0) request.alignment = page;
    return places.place(request, [&] {
      ++mapped;
      return HostMemory::zeroes(request.size);
    });
  }

  GuestMemory memory;
  NoSlots slots;
  DeviceMemory places{memory, slots, first};
  int mapped = 0;
};

std::size_t pieces(const GuestMemory& memory, GuestRange range) {
  std::vector<iovec> parts;
  memory.for_read(range, parts);
  return parts.size();
}

}  // namespace

TEST_CASE("devices get the lowest places above RAM that are free, as they are aligned") {
  World world;
  CHECK(world.place({.size = page}).range == GuestRange{first, page});
  CHECK(world.place({.size = 2 * mib, .alignment = 2 * mib}).range == GuestRange{{2 * mib}, 2 * mib});
  CHECK(world.place({.size = page}).range == GuestRange{first + page, page});
  CHECK(world.place({.size = mib}).range == GuestRange{{4 * mib}, mib});
  CHECK(world.memory.size() == mib);
  CHECK(world.memory.regions().size() == 1);
  CHECK(world.memory.device_regions().size() == 4);
}

TEST_CASE("memory of a device is guest memory, in one range with the RAM before it") {
  World world;
  const MemoryRegion region = world.place({.size = page});
  world.memory.write(GuestAddress{mib - 4}, le64(0x1122334455667788));  // 4 bytes before, 4 behind
  CHECK(load_le(std::span(region.host, 4)) == 0x11223344);
  CHECK(world.memory.read<le64>(GuestAddress{mib - 4}) == 0x1122334455667788);
  CHECK(pieces(world.memory, {{0}, mib + page}) == 2);
  CHECK(world.memory.contains({{0}, mib + page}));
  CHECK_FALSE(world.memory.contains({{0}, mib + page + 1}));
  world.memory.store_release<std::uint16_t>(first + 8, 7);
  CHECK(world.memory.load_acquire<std::uint16_t>(first + 8) == 7);
}

TEST_CASE("what may only be read is read, and refused as a place to write to in every way") {
  World world;
  world.place({.size = page, .writable = false});
  std::vector<iovec> parts;
  CHECK(world.memory.read<le32>(first) == 0);
  CHECK(world.memory.load_acquire<std::uint32_t>(first) == 0);
  world.memory.for_read({first, page}, parts);
  CHECK(parts.size() == 1);
  CHECK_THROWS_AS(world.memory.write(first, le32(1)), GuestError);
  CHECK_THROWS_AS(world.memory.write(GuestAddress{mib - 2}, le32(1)), GuestError);  // 2 bytes of it
  CHECK_THROWS_AS(world.memory.store_release<std::uint32_t>(first, 1), GuestError);
  CHECK_THROWS_AS(world.memory.for_write({first, 1}, parts), GuestError);
  CHECK_THROWS_AS(world.memory.for_write({{0}, mib + 1}, parts), GuestError);
  CHECK_THROWS_AS(world.memory.fill_zero({first, 8}), GuestError);
  CHECK(parts.size() == 1);
  CHECK(world.memory.read<le32>(GuestAddress{mib - 2}) == 0);
}

TEST_CASE("blocks that are not there are no memory, those that are form one piece") {
  World world;
  const MemoryRegion region = world.place({.size = 4 * page, .block_size = page});
  REQUIRE(region.blocks != nullptr);
  CHECK_FALSE(world.memory.contains({first, 1}));
  CHECK_THROWS_AS(world.memory.read<le32>(first), GuestError);
  region.blocks->set(1, 2, true);
  CHECK(region.blocks->count_in(0, 4) == 2);
  CHECK_FALSE(world.memory.contains({first + (page - 1), 1}));
  CHECK(world.memory.contains({first + page, 2 * page}));
  CHECK_FALSE(world.memory.contains({first + page, 2 * page + 1}));
  CHECK_FALSE(world.memory.contains({first + (page - 1), 2}));
  CHECK(pieces(world.memory, {first + page, 2 * page}) == 1);
  CHECK_THROWS_AS(pieces(world.memory, {first + 2 * page, page + 1}), GuestError);
  CHECK_THROWS_AS(world.memory.write(first + (3 * page - 2), le32(1)), GuestError);
  CHECK(world.memory.read<le16>(first + (3 * page - 2)) == 0);
  region.blocks->set(2, 1, false);
  CHECK_FALSE(world.memory.contains({first + 2 * page, 1}));
  CHECK(world.memory.contains({first + (2 * page - 1), 1}));
}

TEST_CASE("blocks over more than a word of the map are found on both sides of each word") {
  World world;
  const MemoryRegion region = world.place({.size = 130 * page, .block_size = page});
  region.blocks->set(0, 130, true);
  CHECK(world.memory.contains({first, 130 * page}));
  CHECK(pieces(world.memory, {first, 130 * page}) == 1);
  for (const std::uint64_t block : {0u, 63u, 64u, 127u, 128u, 129u}) {
    region.blocks->set(block, 1, false);
    CHECK_FALSE(world.memory.contains({first + block * page, 1}));
    CHECK(region.blocks->count_in(0, 130) == 129);
    region.blocks->set(block, 1, true);
  }
}

TEST_CASE("a block that comes and goes under the eyes of another thread is there or not, and nothing else") {
  World world;
  const MemoryRegion region = world.place({.size = 2 * page, .block_size = page});
  region.blocks->set(0, 1, true);
  std::atomic<bool> done = false;
  std::thread guest([&] {
    for (int i = 0; i < 20'000; ++i) region.blocks->set(1, 1, i % 2 == 0);
    done = true;
  });
  std::array<std::byte, 16> bytes{};
  while (!done) {
    try {
      world.memory.write_bytes(first + (page - 8), bytes);
      world.memory.read_bytes(first + (page - 8), bytes);
    } catch (const GuestError&) {
    }
  }
  guest.join();
  CHECK_FALSE(world.memory.contains({first + (page - 8), 16}));
}

TEST_CASE("memory of a device that was given back to the host reads as zero, private and shared") {
  const bool shared = GENERATE(false, true);
  GuestMemory memory(std::array{GuestRange{{0}, page}});
  const MemoryRegion region =
      memory.add({first, 2 * page}, HostMemory::zeroes(2 * page, {.shared = shared}), true);
  CHECK((region.fd >= 0) == shared);
  memory.write(first, le32(1));
  memory.write(first + page, le32(2));
  CHECK(region.discard(0, page) == page);
  CHECK(memory.read<le32>(first) == 0);
  CHECK(memory.read<le32>(first + page) == 2);
  CHECK(region.discard(page + 1, page) == 0);  // no whole page
  CHECK(memory.read<le32>(first + page) == 2);
}

TEST_CASE("a balloon gives back plugged blocks, and nothing of a file") {
  World world;
  const MemoryRegion file = world.place({.size = page});
  const MemoryRegion blocks = world.place({.size = 2 * page, .block_size = page});
  blocks.blocks->set(0, 1, true);
  for (const MemoryRegion& region : {file, blocks}) world.memory.write(region.range.begin, le32(1));
  CHECK(world.memory.discard(file.range) == 0);
  CHECK(world.memory.discard(GuestRange{blocks.range.begin, page}) == page);
  CHECK(world.memory.discard(iovec{file.host, page}) == 0);
  CHECK(world.memory.read<le32>(file.range.begin) == 1);
  CHECK(world.memory.read<le32>(blocks.range.begin) == 0);
  CHECK_THROWS_AS(world.memory.discard(blocks.range), GuestError);
}

TEST_CASE("what a machine has left is in the same place in the next one, with its bytes and blocks") {
  World source;
  source.place({.size = page, .alignment = 2 * mib});
  const MemoryRegion region = source.place({.size = 2 * page, .block_size = page});
  region.blocks->set(1, 1, true);
  source.memory.write(region.range.begin + page, le32(5));
  World next(std::move(source.memory));
  source.places.give_back(region.range);  // as the source's device does at its end
  CHECK(next.place({.size = page, .alignment = 2 * mib}).range.begin.value == 2 * mib);
  CHECK(next.place({.size = 2 * page, .block_size = page}).range == region.range);
  CHECK(next.mapped == 0);
  CHECK(next.memory.read<le32>(region.range.begin + page) == 5);
  CHECK_FALSE(next.memory.contains({region.range.begin, 1}));
  CHECK(next.place({.size = page}).range.begin == region.range.begin + 2 * page);
  CHECK(next.mapped == 1);
}

TEST_CASE("a successor with another kind of memory is refused") {
  const auto request =
      GENERATE(DeviceMemory::Request{.size = 2 * page}, DeviceMemory::Request{.size = page},
               DeviceMemory::Request{.size = 2 * page, .writable = false, .block_size = page},
               DeviceMemory::Request{.size = 2 * page, .block_size = 2 * page},
               DeviceMemory::Request{.size = 2 * page, .alignment = 4 * mib, .block_size = page});
  World source;
  source.place({.size = 2 * page, .block_size = page});
  World next(std::move(source.memory));
  CHECK_THROWS_AS(next.place(request), ConfigError);
}

TEST_CASE("a place that was given back is no guest memory any more, and the next one that fits is there") {
  World world;
  const MemoryRegion one = world.place({.size = page});
  const MemoryRegion two = world.place({.size = page});
  world.places.give_back(one.range);
  world.places.give_back({{0}, 5});
  CHECK_FALSE(world.memory.contains({one.range.begin, 1}));
  CHECK(world.memory.contains(two.range));
  CHECK(world.place({.size = 2 * page}).range.begin == two.range.begin + page);
  CHECK(world.place({.size = page}).range == one.range);
  CHECK(world.place({.size = page}).range.begin == two.range.begin + 3 * page);
}

TEST_CASE("places that come and go for ever need no more addresses than those of one moment") {
  World world;
  world.places.limit(21);  // 2 MiB, of which 1 is RAM
  const MemoryRegion stays = world.place({.size = page});
  for (int i = 0; i < 1000; ++i) {
    const MemoryRegion small = world.place({.size = page});
    const MemoryRegion large = world.place({.size = mib / 2, .alignment = mib / 4});
    CHECK(small.range.begin == stays.range.begin + page);
    CHECK(large.range.begin.value == mib + mib / 4);
    world.places.give_back(small.range);
    world.places.give_back(large.range);
  }
}

TEST_CASE("a place is taken again while the machine stands still") {
  World world;
  world.places.close();
  CHECK_THROWS_AS(world.place({.size = page}), ConfigError);
  world.places.open();
  CHECK(world.place({.size = page}).range.begin == first);
}

TEST_CASE("a file that the host does not map is the host's error") {
  HostMemory memory = HostMemory::zeroes(page);
  CHECK_THROWS_AS(memory.put_file(-1, page, PROT_READ), HostError);
}

TEST_CASE("memory that has no room below the last address, or comes late, is refused by the option's name") {
  World world;
  world.places.limit(22);  // 4 MiB
  const auto error_of = [&](const DeviceMemory::Request& request) {
    try {
      world.place(request);
    } catch (const ConfigError& error) {
      return std::string(error.key());
    }
    return std::string();
  };
  CHECK(error_of({.size = 4 * mib, .alignment = mib}) == "some.option");
  CHECK(error_of({.size = page, .alignment = 4 * mib}) == "some.option");
  CHECK(error_of({.size = UINT64_MAX - mib + 1}) == "some.option");
  CHECK(world.mapped == 0);
  CHECK(error_of({.size = 3 * mib}) == "");
  CHECK(error_of({.size = page}) == "some.option");
  World late;
  late.places.close();
  CHECK_THROWS_AS(late.place({.size = page}), ConfigError);
}

}  // namespace hum
