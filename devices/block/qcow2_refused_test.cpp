// SPDX-License-Identifier: Apache-2.0
//
// Hosts that refuse one access, or lose power, while an image is changed as a whole.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "devices/block/copy_image.h"
#include "devices/block/qcow2_guest_testing.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;

FileState state_of(std::vector<std::byte> bytes) {
  return {.bytes = std::move(bytes), .records = {}, .waiting = {}, .fault = {}};
}

// Sector n of the first so many has the number n + 1.
void number_sectors(BlockBackend& image, FileState& state, std::uint32_t count) {
  Access write(Kind::write, 0, count);
  for (std::uint32_t i = 0; i < count; ++i) write.set(i, i + 1);
  REQUIRE(run(image, state, write) == BlockResult::ok);
  Access flush(Kind::flush, 0, 0);
  REQUIRE(run(image, state, flush) == BlockResult::ok);
}

bool has_numbers(BlockBackend& image, FileState& state, std::uint32_t count, bool may_fail = false) {
  Access read(Kind::read, 0, count);
  const BlockResult result = run(image, state, read);
  if (may_fail && result == BlockResult::io_error) return true;
  REQUIRE(result == BlockResult::ok);
  for (std::uint32_t i = 0; i < count; ++i)
    if (read.at(i) != i + 1) return false;
  return true;
}

// One access of several fails: the one with this number, counted over all files.
struct Refusal {
  unsigned which;
  unsigned number = 0;

  std::function<BlockResult()> fault() {
    return [this] {
      if (number++ != which) return BlockResult::ok;
      return which % 2 == 0 ? BlockResult::no_space : BlockResult::io_error;
    };
  }
  bool met() const { return number > which; }
};

TEST_CASE("whatever access the host refuses while a disk shrinks, what is before its new end stays") {
  unsigned failed = 0;
  for (Refusal refusal{0};; refusal = {refusal.which + 1}) {
    INFO("access " << refusal.which);
    FileState state = state_of(new_image(3000 * sector, 9));
    BlockResult result = BlockResult::ok;
    {
      const auto image = open_image(state, nullptr, 0);
      number_sectors(*image, state, 300);
      state.fault = refusal.fault();
      FinishingEngine engine({&state});
      result = image->resize(engine, 100 * sector);
      state.fault = nullptr;
      REQUIRE(image->size() == (result == BlockResult::ok ? 100u : 3000u) * sector);
      // Tables that cannot be written any more leave no room for others.
      REQUIRE(has_numbers(*image, state, 100, result != BlockResult::ok));
    }
    failed += result != BlockResult::ok ? 1 : 0;
    REQUIRE(leaked_clusters(state.bytes));
    const auto again = open_image(state);
    REQUIRE((again->size() == 100 * sector || (result != BlockResult::ok && again->size() == 3000 * sector)));
    REQUIRE(has_numbers(*again, state, 100));
    if (!refusal.met()) break;
  }
  CHECK(failed > 10);
}

TEST_CASE("whatever access the host refuses while an overlay is committed, its disk has all that it had") {
  unsigned failed = 0;
  for (Refusal refusal{0};; refusal = {refusal.which + 1}) {
    INFO("access " << refusal.which);
    FileState base = state_of(new_image(60 * sector, 9));
    FileState over = state_of(new_image(200 * sector, 9));
    {
      const auto image = open_image(over);
      number_sectors(*image, over, 120);
    }
    BlockResult result = BlockResult::ok;
    {
      const auto image = open_image(over, open_image(base, nullptr, 0), 0);
      FinishingEngine engine({&base, &over});
      base.fault = over.fault = refusal.fault();
      result = commit_image(*image, engine, [](auto, auto) { return true; })->result;
      base.fault = over.fault = nullptr;
    }
    failed += result != BlockResult::ok ? 1 : 0;
    REQUIRE(leaked_clusters(base.bytes));
    REQUIRE(leaked_clusters(over.bytes));
    const auto image = open_image(over, open_image(base));
    Access read(Kind::read, 0, 120);
    FileStateEngine engine(over);
    FinishingEngine finish({&base, &over});
    image->start(engine, read);
    finish.drain();
    REQUIRE(read.outcome == BlockResult::ok);
    for (std::uint32_t i = 0; i < 120; ++i) REQUIRE(read.at(i) == i + 1);
    if (!refusal.met()) break;
  }
  CHECK(failed > 10);
}

// An image with data of which some clusters are counted wrong: too few of some, so that a repair makes all
// counts anew, or only too many, or flags do not fit.
std::vector<std::byte> miscounted_image(unsigned bits, std::mt19937& random, bool leaks_only) {
  FileState state = state_of(new_image(300 * sector, bits));
  {
    const auto image = open_image(state);
    number_sectors(*image, state, 200);
  }
  const std::uint64_t cluster = std::uint64_t{1} << bits;
  const std::uint64_t clusters = state.bytes.size() / cluster;
  const auto counts = std::span(state.bytes).subspan(2 * cluster, cluster);
  const std::uint64_t counted = std::min(clusters, cluster / 4);
  for (int i = 0; i < 6; ++i) {
    const std::uint64_t which =
        leaks_only ? clusters + random() % (cluster / 2 - clusters) : 3 + random() % (counted - 3);
    store_be(counts.subspan(which * 2, 2), leaks_only ? 1 : 0);
  }
  return state.bytes;
}

std::uint64_t errors_of(const std::vector<std::byte>& bytes) {
  MemoryImageFile file(bytes);
  Qcow2Check check("test", "test", file, read_qcow2_header("test", "test", file));
  return check.run().errors();
}

TEST_CASE("after a loss of power at any moment of a repair the image is as before or sound") {
  const bool whole = std::getenv("HUM_LONG") != nullptr;
  unsigned cuts = 0;
  for (unsigned seed = 1; cuts < (whole ? 2000u : 200u); ++seed) {
    std::mt19937 random(seed);
    const bool leaks_only = seed % 3 == 0;
    const std::vector<std::byte> before = miscounted_image(9 + seed % 4, random, leaks_only);
    const std::uint64_t errors = errors_of(before);
    REQUIRE((errors == 0) == leaks_only);
    FileState state = state_of(before);
    LateFile file(state);
    Qcow2Check check("test", "test", file, read_qcow2_header("test", "test", file));
    check.run();
    REQUIRE(check.repair(!leaks_only) == BlockResult::ok);
    REQUIRE(check.findings().errors() == 0);
    for (std::size_t records = 0; records <= state.records.size(); ++records, ++cuts) {
      INFO("seed " << seed << ", after " << records << " records");
      FileState left = state_of(after_crash(before, state.records, records, random));
      const std::uint64_t still = errors_of(left.bytes);
      // Flags are mended one by one once the counts are right.
      REQUIRE(still <= errors);
      LateFile again(left);
      Qcow2Check second("test", "test", again, read_qcow2_header("test", "test", again));
      second.run();
      REQUIRE(second.repair(true) == BlockResult::ok);
      REQUIRE(second.findings().errors() == 0);
      const auto image = open_image(left);
      REQUIRE(has_numbers(*image, left, 200));
    }
  }
  std::printf("count: %u cuts of a repair, seeds from 1\n", cuts);
}

TEST_CASE("whatever access the host refuses during a repair, the next one mends the image") {
  unsigned failed = 0;
  for (const bool leaks_only : {false, true}) {
    for (Refusal refusal{0};; refusal = {refusal.which + 1}) {
      INFO("access " << refusal.which);
      std::mt19937 random(7);
      FileState state = state_of(miscounted_image(9, random, leaks_only));
      LateFile file(state);
      const Qcow2Header header = read_qcow2_header("test", "test", file);
      Qcow2Check check("test", "test", file, header);
      check.run();
      state.fault = refusal.fault();
      const BlockResult result = check.repair(!leaks_only);
      state.fault = nullptr;
      failed += result != BlockResult::ok ? 1 : 0;
      Qcow2Check second("test", "test", file, read_qcow2_header("test", "test", file));
      second.run();
      REQUIRE(second.repair(true) == BlockResult::ok);
      REQUIRE(leaked_clusters(state.bytes));
      const auto image = open_image(state);
      REQUIRE(has_numbers(*image, state, 200));
      if (!refusal.met()) break;
    }
  }
  CHECK(failed > 5);
}

}  // namespace
}  // namespace hum
