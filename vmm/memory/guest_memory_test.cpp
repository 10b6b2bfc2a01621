// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>

#include "vmm/base/endian.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

constexpr std::uint64_t page = 4096;

// Two regions that touch, a hole of a page, and a third.
constexpr std::array layout{
    GuestRange{GuestAddress{0}, 2 * page},
    GuestRange{GuestAddress{2 * page}, page},
    GuestRange{GuestAddress{4 * page}, page},
};
constexpr GuestAddress hole{3 * page};
constexpr GuestAddress last{4 * page};

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 1);
  return bytes;
}

}  // namespace

TEST_CASE("memory has the regions it was made of, zeroed") {
  const GuestMemory memory(layout);
  REQUIRE(memory.regions().size() == 3);
  CHECK(memory.size() == 4 * page);
  for (std::size_t i = 0; i < layout.size(); ++i) {
    CHECK(memory.regions()[i].range == layout[i]);
    CHECK(memory.regions()[i].fd == -1);
  }
  CHECK(memory.read<std::uint64_t>(GuestAddress{0}) == 0);
  CHECK(memory.read<std::uint64_t>(last + (page - 8)) == 0);
}

TEST_CASE("a range is inside only if every byte of it is") {
  const GuestMemory memory(layout);
  CHECK(memory.contains({GuestAddress{0}, 1}));
  CHECK(memory.contains({GuestAddress{0}, 3 * page}));
  CHECK_FALSE(memory.contains({GuestAddress{0}, 3 * page + 1}));
  CHECK(memory.contains({hole + UINT64_MAX, 1}));  // the byte before
  CHECK_FALSE(memory.contains({hole, 1}));
  CHECK_FALSE(memory.contains({hole + (page - 1), 2}));
  CHECK(memory.contains({last, page}));
  CHECK_FALSE(memory.contains({last, page + 1}));
  CHECK_FALSE(memory.contains({last + page, 1}));
  CHECK_FALSE(memory.contains({GuestAddress{0}, 5 * page}));
}

TEST_CASE("an empty range is inside if its address is") {
  const GuestMemory memory(layout);
  CHECK(memory.contains({GuestAddress{0}, 0}));
  CHECK_FALSE(memory.contains({hole, 0}));
  CHECK_FALSE(memory.contains({last + page, 0}));
}

TEST_CASE("ranges that wrap round the address space are outside") {
  const GuestMemory memory(layout);
  std::vector<iovec> parts;
  for (const GuestRange range :
       {GuestRange{GuestAddress{0}, UINT64_MAX}, GuestRange{GuestAddress{page}, UINT64_MAX},
        GuestRange{GuestAddress{UINT64_MAX}, 2}, GuestRange{GuestAddress{UINT64_MAX - 7}, page}}) {
    CHECK_FALSE(memory.contains(range));
    CHECK_THROWS_AS(memory.for_read(range, parts), GuestError);
    CHECK_THROWS_AS(memory.fill_zero(range), GuestError);
  }
  CHECK(parts.empty());
  CHECK_THROWS_AS(memory.read<std::uint64_t>(GuestAddress{UINT64_MAX}), GuestError);
  CHECK_THROWS_AS(memory.write<std::uint64_t>(GuestAddress{UINT64_MAX - 6}, 1), GuestError);
}

TEST_CASE("objects are read and written up to both ends of every region and not past them") {
  const GuestMemory memory(layout);
  for (const MemoryRegion& region : memory.regions()) {
    const GuestAddress begin = region.range.begin;
    const GuestAddress end = begin + region.range.size;
    CAPTURE(begin.value);
    memory.write<std::uint32_t>(begin, 0x11223344);
    CHECK(memory.read<std::uint32_t>(begin) == 0x11223344);
    memory.write<std::uint32_t>(end + (UINT64_MAX - 3), 0x55667788);
    CHECK(memory.read<std::uint32_t>(end + (UINT64_MAX - 3)) == 0x55667788);
    CHECK(region.host[0] == std::byte{0x44});
    CHECK(region.host[region.range.size - 1] == std::byte{0x55});
  }
  CHECK_THROWS_AS(memory.read<std::uint32_t>(GuestAddress{3 * page - 3}), GuestError);
  CHECK_THROWS_AS(memory.write<std::uint32_t>(GuestAddress{3 * page - 3}, 1), GuestError);
  CHECK_THROWS_AS(memory.read<std::uint8_t>(hole), GuestError);
  CHECK_THROWS_AS(memory.read<std::uint32_t>(GuestAddress{4 * page - 1}), GuestError);
  CHECK_THROWS_AS(memory.read<std::uint32_t>(last + (page - 3)), GuestError);
  CHECK_THROWS_AS(memory.write<std::uint8_t>(last + page, 1), GuestError);
}

TEST_CASE("an access crosses regions that touch") {
  const GuestMemory memory(layout);
  const auto bytes = pattern(page + 100);
  memory.write_bytes(GuestAddress{2 * page - 100}, bytes);
  std::vector<std::byte> back(bytes.size());  // up to the hole
  memory.read_bytes(GuestAddress{2 * page - 100}, back);
  CHECK(back == bytes);
  CHECK(memory.regions()[0].host[2 * page - 1] == bytes[99]);
  CHECK(memory.regions()[1].host[0] == bytes[100]);
}

TEST_CASE("a write that does not fit changes nothing") {
  const GuestMemory memory(layout);
  CHECK_THROWS_AS(memory.write_bytes(GuestAddress{3 * page - 4}, pattern(5)), GuestError);
  CHECK(memory.read<std::uint32_t>(GuestAddress{3 * page - 4}) == 0);
  memory.write<std::uint32_t>(GuestAddress{3 * page - 4}, 0xffffffff);
  CHECK_THROWS_AS(memory.fill_zero({GuestAddress{3 * page - 4}, 5}), GuestError);
  CHECK(memory.read<std::uint32_t>(GuestAddress{3 * page - 4}) == 0xffffffff);
}

TEST_CASE("copying nothing touches no address") {
  const GuestMemory memory(layout);
  memory.read_bytes(hole, {});
  memory.write_bytes(hole, {});
  memory.fill_zero({hole, 0});
  std::vector<iovec> parts;
  memory.for_write({hole, 0}, parts);
  CHECK(parts.empty());
}

TEST_CASE("a range is cleared, across regions, and no byte beside it") {
  const GuestMemory memory(layout);
  const std::vector<std::byte> ones(3 * page, std::byte{0xff});
  memory.write_bytes(GuestAddress{0}, ones);
  memory.fill_zero({GuestAddress{2 * page - 1}, 2});
  CHECK(memory.read<std::uint32_t>(GuestAddress{2 * page - 2}) == 0xff0000ff);
}

TEST_CASE("ring indices are accessed aligned, inside one region, or not at all") {
  const GuestMemory memory(layout);
  memory.store_release<std::uint16_t>(GuestAddress{3 * page - 2}, 0x1234);
  CHECK(memory.load_acquire<std::uint16_t>(GuestAddress{3 * page - 2}) == 0x1234);
  memory.store_release<std::uint64_t>(last, 5);
  CHECK(memory.load_acquire<std::uint64_t>(last) == 5);
  CHECK_THROWS_AS(memory.load_acquire<std::uint16_t>(GuestAddress{1}), GuestError);
  CHECK_THROWS_AS(memory.store_release<std::uint64_t>(GuestAddress{4}, 1), GuestError);
  CHECK_THROWS_AS(memory.load_acquire<std::uint16_t>(hole), GuestError);
  CHECK_THROWS_AS(memory.store_release<std::uint16_t>(last + page, 1), GuestError);
  CHECK_THROWS_AS(memory.load_acquire<std::uint64_t>(GuestAddress{UINT64_MAX - 7}), GuestError);
}

TEST_CASE("iovecs cover exactly the range, one for each region, after those already there") {
  const GuestMemory memory(layout);
  std::vector<iovec> parts;
  memory.for_read({GuestAddress{page}, 2 * page}, parts);
  memory.for_write({last + (page - 1), 1}, parts);
  REQUIRE(parts.size() == 3);
  CHECK(parts[0].iov_base == memory.regions()[0].host + page);
  CHECK(parts[0].iov_len == page);
  CHECK(parts[1].iov_base == memory.regions()[1].host);
  CHECK(parts[1].iov_len == page);
  CHECK(parts[2].iov_base == memory.regions()[2].host + page - 1);
  CHECK(parts[2].iov_len == 1);
}

TEST_CASE("a range that leaves RAM appends no iovec") {
  const GuestMemory memory(layout);
  std::vector<iovec> parts;
  memory.for_read({GuestAddress{0}, 1}, parts);
  CHECK_THROWS_AS(memory.for_read({GuestAddress{page}, 2 * page + 1}, parts), GuestError);
  CHECK_THROWS_AS(memory.for_write({last, page + 1}, parts), GuestError);
  CHECK(parts.size() == 1);
}

TEST_CASE("copies between iovecs and buffers start at any offset and end where either ends") {
  auto source = pattern(10);
  const std::array<iovec, 3> parts{iovec{source.data(), 4}, iovec{source.data() + 4, 0},
                                   iovec{source.data() + 4, 6}};
  std::array<std::byte, 10> out{};

  CHECK(copy_from(parts, 0, out) == 10);
  CHECK(std::equal(out.begin(), out.end(), source.begin()));
  CHECK(copy_from(parts, 3, std::span(out).first(2)) == 2);
  CHECK(out[0] == source[3]);
  CHECK(out[1] == source[4]);
  CHECK(copy_from(parts, 4, out) == 6);
  CHECK(copy_from(parts, 9, out) == 1);
  CHECK(copy_from(parts, 10, out) == 0);
  CHECK(copy_from(parts, SIZE_MAX, out) == 0);
  CHECK(copy_from(parts, 0, {}) == 0);
  CHECK(copy_from({}, 0, out) == 0);

  const std::array<std::byte, 3> in{std::byte{0xa1}, std::byte{0xa2}, std::byte{0xa3}};
  CHECK(copy_to(parts, 3, in) == 3);
  CHECK(source[2] == pattern(10)[2]);
  CHECK(source[3] == in[0]);
  CHECK(source[5] == in[2]);
  CHECK(source[6] == pattern(10)[6]);
  CHECK(copy_to(parts, 8, in) == 2);
  CHECK(source[9] == in[1]);
  CHECK(copy_to(parts, 10, in) == 0);
}

TEST_CASE("shared memory is one file that another mapping sees") {
  const GuestMemory memory(layout, {.shared = true});
  const MemoryRegion& region = memory.regions()[2];
  REQUIRE(region.fd >= 0);
  CHECK(region.fd_offset == 3 * page);
  CHECK(memory.regions()[0].fd_offset == 0);
  struct stat status{};
  REQUIRE(::fstat(region.fd, &status) == 0);
  CHECK(status.st_size == 4 * page);

  memory.write<std::uint32_t>(last, 0xcafe);
  std::uint32_t seen = 0;
  REQUIRE(::pread(region.fd, &seen, sizeof seen, static_cast<off_t>(region.fd_offset)) == sizeof seen);
  CHECK(seen == 0xcafe);
  seen = 0xbeef;
  REQUIRE(::pwrite(region.fd, &seen, sizeof seen, static_cast<off_t>(region.fd_offset)) == sizeof seen);
  CHECK(memory.read<std::uint32_t>(last) == 0xbeef);
}

TEST_CASE("the file of shared memory keeps its size, whoever has it") {
  const GuestMemory memory(layout, {.shared = true});
  const int fd = memory.regions().front().fd;
  for (const off_t size : {off_t{0}, static_cast<off_t>(memory.size() + 4096)}) {
    CHECK(::ftruncate(fd, size) == -1);
    CHECK(errno == EPERM);
  }
  CHECK(::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1);
}

TEST_CASE("discarded memory reads as zero and takes none of the host's until it is written") {
  const auto shared = GENERATE(false, true);
  const GuestMemory memory(layout, {.shared = shared});
  for (const GuestRange& range : layout)
    for (std::uint64_t at = 0; at < range.size; at += page) memory.write(range.begin + at, 0x5a5a5a5a);
  const auto in_use = [&](GuestAddress address) {
    std::vector<iovec> parts;
    memory.for_read({address, page}, parts);
    unsigned char map = 0;
    REQUIRE(::mincore(parts.front().iov_base, page, &map) == 0);
    return (map & 1) != 0;
  };
  CHECK(memory.discard(GuestRange{GuestAddress{page}, 2 * page}) == 2 * page);  // two regions
  CHECK(in_use(GuestAddress{0}));
  CHECK_FALSE(in_use(GuestAddress{page}));
  CHECK_FALSE(in_use(GuestAddress{2 * page}));
  CHECK(in_use(last));
  CHECK(memory.read<std::uint32_t>(GuestAddress{page}) == 0);
  memory.write(GuestAddress{page}, 1);
  CHECK(in_use(GuestAddress{page}));

  std::vector<iovec> parts;
  memory.for_write({last, page}, parts);
  CHECK(memory.discard(parts.front()) == page);
  CHECK_FALSE(in_use(last));
  if (shared) {
    struct stat status{};
    REQUIRE(::fstat(memory.regions().front().fd, &status) == 0);
    CHECK(status.st_blocks * 512 == static_cast<blkcnt_t>(2 * page));
  }
}

TEST_CASE("what is no whole page of the host is not discarded") {
  const GuestMemory memory(layout);
  memory.write(GuestAddress{0}, 1);
  memory.write(GuestAddress{page}, 1);
  for (const GuestRange range : {GuestRange{GuestAddress{0}, page - 1}, GuestRange{GuestAddress{1}, page},
                                 GuestRange{GuestAddress{page - 1}, page}, GuestRange{GuestAddress{0}, 0}})
    CHECK(memory.discard(range) == 0);
  CHECK(memory.read<std::uint32_t>(GuestAddress{0}) == 1);
  CHECK(memory.discard(GuestRange{GuestAddress{page - 1}, page + 1}) == page);
  CHECK(memory.read<std::uint32_t>(GuestAddress{0}) == 1);
  CHECK(memory.read<std::uint32_t>(GuestAddress{page}) == 0);
}

TEST_CASE("only what is memory whole can be discarded") {
  const GuestMemory memory(layout);
  memory.write(GuestAddress{0}, 1);
  for (const GuestRange range : {GuestRange{hole, page}, GuestRange{GuestAddress{0}, 3 * page + 1},
                                 GuestRange{last, 2 * page}, GuestRange{GuestAddress{0}, UINT64_MAX}})
    CHECK_THROWS_AS(memory.discard(range), GuestError);
  CHECK(memory.read<std::uint32_t>(GuestAddress{0}) == 1);
}

TEST_CASE("of huge pages only whole ones are discarded") {
  constexpr std::uint64_t huge = 2 << 20;
  const auto shared = GENERATE(false, true);
  std::optional<GuestMemory> memory;
  try {
    memory.emplace(std::array{GuestRange{GuestAddress{0}, 2 * huge}},
                   MemoryBacking{.shared = shared, .hugepages = true});
  } catch (const HostError&) {
    WARN("skipped: the host has no two huge pages");
    return;
  }
  memory->write(GuestAddress{0}, 1);
  memory->write(GuestAddress{huge}, 1);
  CHECK(memory->discard(GuestRange{GuestAddress{page}, 2 * huge - 2 * page}) == 0);
  CHECK(memory->discard(GuestRange{GuestAddress{page}, 2 * huge - page}) == huge);
  CHECK(memory->read<std::uint32_t>(GuestAddress{0}) == 1);
  CHECK(memory->read<std::uint32_t>(GuestAddress{huge}) == 0);
}

TEST_CASE("memory that the host cannot give is the host's error, with the fix") {
  const std::array huge{GuestRange{GuestAddress{0}, std::uint64_t{1} << 47}};
  CHECK_THROWS_AS(GuestMemory(huge), HostError);
  try {
    // Huge pages of this many are in no pool.
    const GuestMemory memory(huge, {.hugepages = true});
    FAIL("no error");
  } catch (const HostError& error) {
    CHECK(std::string(error.what()).find("vm.nr_hugepages") != std::string::npos);
  }
  CHECK_THROWS_AS(GuestMemory(huge, MemoryBacking{.shared = true, .hugepages = true}), HostError);
}

}  // namespace hum
