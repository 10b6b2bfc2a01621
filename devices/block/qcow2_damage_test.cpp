// SPDX-License-Identifier: Apache-2.0
//
// Damaged and hostile images, and hosts that fail: what is there stays as it is.
#include <algorithm>
#include <array>
#include <vector>

#include "devices/block/qcow2_guest_testing.h"
#include "devices/block/raw_file.h"
#include "devices/temporary_file.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;

FileState state_of(std::vector<std::byte> bytes) {
  return {.bytes = std::move(bytes), .records = {}, .waiting = {}, .fault = {}};
}

Qcow2Check check_of(ImageFile& file) {
  return {"test", "test", file, read_qcow2_header("test", "test", file)};
}

// A new image: header, refcount table, refcount block, L1 table, a cluster each.
constexpr std::uint64_t table_cluster = 1;
constexpr std::uint64_t block_cluster = 2;

TEST_CASE("a refcount block that many entries lead to is counted once, and each other entry is an error") {
  MemoryImageFile file(new_image(64 * sector, 12));
  const std::uint64_t entries = 4096 / 8;
  std::array<std::byte, 8> place{};
  store_be(place, block_cluster * 4096);
  for (std::uint64_t i = 0; i < entries; ++i)
    CHECK(file.write(table_cluster * 4096 + i * 8, place) == BlockResult::ok);
  Qcow2Check check = check_of(file);
  const Qcow2Findings& findings = check.run();
  CHECK(findings.count(Qcow2Findings::Kind::overlap) == entries - 1);
  CHECK(findings.leaks() == 0);
}

TEST_CASE("counts behind the end of the file are leaks, and a repair takes them away") {
  MemoryImageFile file(new_image(64 * sector, 12));
  const std::array<std::byte, 2> one{std::byte{0}, std::byte{1}};
  const std::uint64_t clusters = file.size() / 4096;
  CHECK(file.write(block_cluster * 4096 + clusters * 2, one) == BlockResult::ok);
  CHECK(file.write(block_cluster * 4096 + 4094, one) == BlockResult::ok);
  Qcow2Check check = check_of(file);
  CHECK(check.run().leaks() == 2);
  CHECK(check.findings().errors() == 0);
  CHECK(check.repair(false) == BlockResult::ok);
  CHECK(check.findings().leaks() == 0);
  CHECK(leaked_clusters(file.bytes) == 0u);
}

TEST_CASE("an image whose refcount table is empty is not written to") {
  for (const unsigned bits : {9u, 12u, 16u}) {
    INFO("clusters of 2^" << bits);
    FileState state = state_of(new_image(64 * sector, bits));
    const std::uint64_t cluster = std::uint64_t{1} << bits;
    std::fill_n(state.bytes.begin() + static_cast<std::ptrdiff_t>(table_cluster * cluster), cluster,
                std::byte{0});
    const std::vector<std::byte> before = state.bytes;
    {
      const auto image = open_image(state);
      Access write(Kind::write, 0, 8);
      CHECK(run(*image, state, write) == BlockResult::io_error);
    }
    CHECK(state.bytes == before);
  }
}

TEST_CASE("counts that need a longer refcount table than can be read are not made anew") {
  // Of 512 bytes an entry counts 128K: a table of 8 MiB has 128 GiB.
  const TemporaryFile path(std::uint64_t{129} << 30);
  const auto file = RawFile::open("test", path.path(), false);
  std::vector<std::byte> image = new_image(64 * sector, 9);
  image[block_cluster * 512 + 1] = std::byte{0};  // the header is counted as free
  REQUIRE(file->write(0, image) == BlockResult::ok);
  Qcow2Check check = check_of(*file);
  CHECK(check.run().count(Qcow2Findings::Kind::undercount) == 1);
  CHECK(check.repair(true) == BlockResult::unsupported);
  CHECK(file->size() == std::uint64_t{129} << 30);
  std::vector<std::byte> after(image.size());
  REQUIRE(file->read(0, after) == BlockResult::ok);
  CHECK(after == image);
}

TEST_CASE("after a sync that failed, whichever it was, nothing is changed and each flush fails") {
  unsigned failed = 0;
  // Enough for more blocks of refcounts and a longer table of them.
  const std::uint32_t sectors = 17'000;
  bool all = false;
  for (unsigned good = 0; !all; good += good < 3 || good > 60 ? 1 : 19) {
    INFO("sync " << good);
    FileState state = state_of(new_image(30'000 * sector, 9));
    const auto image = open_image(state);
    state.good_syncs = good;
    Access write(Kind::write, 0, sectors);
    BlockResult result = run(*image, state, write);
    FinishingEngine engine({&state});
    if (result == BlockResult::ok) result = image->resize(engine, 3'000'000 * sector);
    all = state.good_syncs <= good;
    failed += all ? 0 : 1;
    const std::size_t records = state.records.size();
    for (int i = 0; i < 3; ++i) {
      Access flush(Kind::flush, 0, 0);
      REQUIRE((run(*image, state, flush) == BlockResult::ok) == all);
    }
    Access more(Kind::write, 20'000, 100);
    if (!all) REQUIRE(run(*image, state, more) == BlockResult::io_error);
    if (!all) REQUIRE(state.records.size() == records);
    REQUIRE(leaked_clusters(state.bytes));
  }
  CHECK(failed > 5);
}

}  // namespace
}  // namespace hum
