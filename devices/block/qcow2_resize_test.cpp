// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "devices/block/qcow2_guest_testing.h"
#include "devices/block/qcow2_image.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;

FileState state_of(std::vector<std::byte> bytes) {
  return {.bytes = std::move(bytes), .records = {}, .waiting = {}, .fault = {}};
}

BlockResult resize(Qcow2Image& image, FileState& state, std::uint64_t sectors) {
  FinishingEngine engine({&state});
  return image.resize(engine, sectors * sector);
}

void write_number(Qcow2Image& image, FileState& state, std::uint64_t index, std::uint32_t number) {
  Access write(Kind::write, index, 1);
  write.set(0, number);
  REQUIRE(run(image, state, write) == BlockResult::ok);
}

TEST_CASE("a disk that grows has its content, and zeroes behind it, now and when it is opened again") {
  // Of clusters of 512 bytes an L1 entry maps 64 sectors and a cluster of them 4096: the table moves.
  for (const std::uint64_t sectors : {100ull, 128ull, 4096ull, 4097ull, 40'000ull, 3'000'000ull}) {
    INFO(sectors << " sectors");
    FileState state = state_of(new_image(70 * sector, 9));
    {
      const auto image = open_image(state);
      write_number(*image, state, 0, 1);
      write_number(*image, state, 69, 2);
      CHECK(resize(*image, state, sectors) == BlockResult::ok);
      CHECK(image->size() == sectors * sector);
      write_number(*image, state, sectors - 1, 3);
      CHECK(read_sector(*image, state, 69) == 2);
      CHECK(read_sector(*image, state, 70) == 0);
    }
    CHECK(leaked_clusters(state.bytes) == 0u);
    const auto again = open_image(state);
    CHECK(again->size() == sectors * sector);
    CHECK(read_sector(*again, state, 0) == 1);
    CHECK(read_sector(*again, state, 69) == 2);
    CHECK(read_sector(*again, state, 70) == 0);
    CHECK(read_sector(*again, state, sectors - 1) == 3);
  }
}

TEST_CASE("what a smaller disk had behind its end is gone when it grows again") {
  for (const unsigned bits : {9u, 12u, 16u}) {
    INFO("clusters of 2^" << bits);
    FileState state = state_of(new_image(300 * sector, bits));
    const auto image = open_image(state);
    for (std::uint64_t i = 0; i < 300; i += 3) write_number(*image, state, i, 7);
    CHECK(resize(*image, state, 100) == BlockResult::ok);
    CHECK(image->size() == 100 * sector);
    CHECK(read_sector(*image, state, 99) == 7);
    CHECK(resize(*image, state, 300) == BlockResult::ok);
    CHECK(read_sector(*image, state, 99) == 7);
    for (std::uint64_t i = 100; i < 300; ++i) REQUIRE(read_sector(*image, state, i) == 0);
  }
}

TEST_CASE("a disk over a longer one shows nothing of it when it grows") {
  for (const unsigned bits : {9u, 12u, 16u}) {
    INFO("clusters of 2^" << bits);
    FileState state = state_of(new_image(70 * sector, bits));
    {
      const auto image = open_image(state, std::make_unique<Backing>(200 * sector));
      CHECK(resize(*image, state, 400) == BlockResult::ok);
    }
    CHECK(leaked_clusters(state.bytes) == 0u);
    const auto image = open_image(state, std::make_unique<Backing>(200 * sector));
    CHECK(read_sector(*image, state, 69) == 1'000'069);
    for (std::uint64_t i = 70; i < 400; ++i) REQUIRE(read_sector(*image, state, i) == 0);
  }
}

TEST_CASE("a disk that is only read, or would be too large, keeps its size") {
  FileState state = state_of(new_image(70 * sector, 9));
  const std::vector<std::byte> before = state.bytes;
  {
    const auto image = open_image(state, nullptr, 1 << 20, true);
    CHECK(resize(*image, state, 100) == BlockResult::unsupported);
    CHECK(image->size() == 70 * sector);
  }
  const auto image = open_image(state);
  // An L1 table of 32 MiB maps 128 GiB.
  CHECK(resize(*image, state, (std::uint64_t{1} << 28) + 1) == BlockResult::unsupported);
  CHECK(resize(*image, state, (std::uint64_t{1} << 47) + 1) == BlockResult::unsupported);
  CHECK(image->size() == 70 * sector);
  CHECK(resize(*image, state, 70) == BlockResult::ok);
  CHECK(state.bytes == before);
}

TEST_CASE("whatever access the host refuses while a disk grows, it is sound and of the old or the new size") {
  for (unsigned refused = 0; refused < 80; ++refused) {
    INFO("access " << refused);
    FileState state = state_of(new_image(70 * sector, 9));
    unsigned number = 0;
    BlockResult result = BlockResult::ok;
    {
      const auto image = open_image(state, nullptr, 0);
      write_number(*image, state, 5, 1);
      state.fault = [&] { return number++ == refused ? BlockResult::no_space : BlockResult::ok; };
      result = resize(*image, state, 9000);
      state.fault = nullptr;
      CHECK(image->size() == (result == BlockResult::ok ? 9000u : 70u) * sector);
      CHECK(read_sector(*image, state, 5) == 1);
    }
    CHECK((result != BlockResult::ok || number <= refused));
    REQUIRE(leaked_clusters(state.bytes));
    const auto again = open_image(state);
    CHECK((again->size() == 70 * sector || again->size() == 9000 * sector));
    // What was not flushed before the table could not be written may be lost.
    const std::uint32_t value = read_sector(*again, state, 5);
    CHECK((value == 1 || (result != BlockResult::ok && value == 0)));
    if (number <= refused) break;
  }
}

}  // namespace
}  // namespace hum
