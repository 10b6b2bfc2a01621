// SPDX-License-Identifier: Apache-2.0
#include "devices/block/qcow2_image.h"

#include <memory>
#include <random>
#include <vector>

#include "devices/block/qcow2_guest_testing.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace testing;

TEST_CASE("a new image reads as zeroes, and what is written is there, also when it is opened again") {
  for (const unsigned bits : {9u, 12u, 16u}) {
    FileState state{.bytes = new_image(1 << 20, bits), .records = {}, .waiting = {}, .fault = {}};
    {
      const auto image = open_image(state);
      CHECK(image->size() == 1 << 20);
      CHECK(read_sector(*image, state, 5) == 0);
      Access write(Kind::write, 3, 300);
      for (std::uint32_t i = 0; i < 300; ++i) write.set(i, i + 1);
      CHECK(run(*image, state, write) == BlockResult::ok);
      CHECK(read_sector(*image, state, 2) == 0);
      CHECK(read_sector(*image, state, 3) == 1);
      CHECK(read_sector(*image, state, 302) == 300);
      CHECK(read_sector(*image, state, 303) == 0);
    }
    CHECK(leaked_clusters(state.bytes) == 0u);
    const auto again = open_image(state, nullptr, 1 << 20, true);
    Access read(Kind::read, 0, 400);
    CHECK(run(*again, state, read) == BlockResult::ok);
    CHECK(read.at(2) == 0);
    CHECK(read.at(3) == 1);
    CHECK(read.at(302) == 300);
    CHECK(read.at(303) == 0);
  }
}

TEST_CASE("what an image has no data for comes from below, up to the end of that") {
  FileState state{.bytes = new_image(64 * sector, 12), .records = {}, .waiting = {}, .fault = {}};
  const auto image = open_image(state, std::make_unique<Backing>(40 * sector));
  CHECK(read_sector(*image, state, 39) == 1'000'039);
  CHECK(read_sector(*image, state, 40) == 0);
  Access write(Kind::write, 35, 2);
  write.set(0, 7);
  write.set(1, 8);
  CHECK(run(*image, state, write) == BlockResult::ok);
  Access read(Kind::read, 30, 14);
  CHECK(run(*image, state, read) == BlockResult::ok);
  CHECK(read.at(4) == 1'000'034);
  CHECK(read.at(5) == 7);
  CHECK(read.at(6) == 8);
  CHECK(read.at(7) == 1'000'037);
  CHECK(read.at(10) == 0);
  Access discard(Kind::discard, 32, 8);
  CHECK(run(*image, state, discard) == BlockResult::ok);
  CHECK(read_sector(*image, state, 33) == 0);
}

TEST_CASE("random writes, discards and flushes, several at a time, leave what was written last") {
  for (unsigned seed = 1; seed <= 12; ++seed) {
    INFO("seed " << seed);
    const unsigned bits = 9 + seed % 4;
    const bool has_backing = seed % 2 == 0;
    FileState state{.bytes = new_image(1500 * sector, bits), .records = {}, .waiting = {}, .fault = {}};
    Qcow2Guest guest(seed, 1500, has_backing);
    for (int round = 0; round < 3; ++round) {
      auto image = open_image(state, has_backing ? std::make_unique<Backing>(1500 * sector) : nullptr,
                              seed % 3 == 0 ? 0 : 1 << 20);
      guest.steps(*image, state, 120);
      guest.look_at_forgotten(*image, state);
      guest.check_all(*image, state);
      image = nullptr;
      REQUIRE(leaked_clusters(state.bytes) == 0u);
      state.records.clear();
      guest.points.clear();
    }
  }
}

TEST_CASE("whatever access of the file the host refuses, the guest is told and nothing is broken") {
  for (unsigned refused = 0; refused < 160; ++refused) {
    INFO("access " << refused);
    FileState state{.bytes = new_image(600 * sector, 9), .records = {}, .waiting = {}, .fault = {}};
    unsigned number = 0;
    unsigned errors = 0;
    {
      const auto image = open_image(state, nullptr, 0);
      state.fault = [&] { return number++ == refused ? BlockResult::no_space : BlockResult::ok; };
      for (unsigned i = 0; i < 12; ++i) {
        Access write(Kind::write, i * 49, 11);
        for (std::uint32_t k = 0; k < 11; ++k) write.set(k, i + 1);
        if (run(*image, state, write) != BlockResult::ok) ++errors;
        Access flush(Kind::flush, 0, 0);
        if (i % 3 == 2 && run(*image, state, flush) != BlockResult::ok) ++errors;
      }
      state.fault = nullptr;
    }
    CHECK((errors != 0 || number <= refused));
    REQUIRE(leaked_clusters(state.bytes));
  }
}

TEST_CASE("of large clusters few are made at a time") {
  FileState state{.bytes = new_image(64 << 20, 21), .records = {}, .waiting = {}, .fault = {}};
  const auto image = open_image(state);
  NoEngine engine;
  std::mt19937 random(1);
  std::vector<std::unique_ptr<Access>> writes;
  for (std::uint64_t i = 0; i < 24; ++i) {
    writes.push_back(std::make_unique<Access>(Kind::write, i * 4096 + 9, 1));
    writes.back()->set(0, static_cast<std::uint32_t>(i + 1));
    image->start(engine, *writes.back());
    CHECK(state.waiting.size() <= 4);
  }
  while (state.finish_one(random)) CHECK(state.waiting.size() <= 4);
  for (const auto& each : writes) CHECK(each->outcome == BlockResult::ok);
  for (std::uint64_t i = 0; i < 24; ++i) {
    CHECK(read_sector(*image, state, i * 4096 + 8) == 0);
    CHECK(read_sector(*image, state, i * 4096 + 9) == i + 1);
  }
}

TEST_CASE("after a sync of the tables that failed, every flush and every write to new clusters fails") {
  for (unsigned refused = 1; refused <= 3; ++refused) {
    FileState state{.bytes = new_image(1 << 20, 12), .records = {}, .waiting = {}, .fault = {}};
    const auto image = open_image(state);
    Access write(Kind::write, 0, 8);
    REQUIRE(run(*image, state, write) == BlockResult::ok);
    // The accesses of a flush: refcounts, sync, L2 table, sync, L1 entry, sync.
    unsigned number = 0;
    state.fault = [&] { return ++number == 2 * refused ? BlockResult::io_error : BlockResult::ok; };
    Access flush(Kind::flush, 0, 0);
    CHECK(run(*image, state, flush) == BlockResult::io_error);
    state.fault = nullptr;
    Access again(Kind::flush, 0, 0);
    CHECK(run(*image, state, again) == BlockResult::io_error);
    Access other(Kind::write, 80, 8);
    CHECK(run(*image, state, other) == BlockResult::io_error);
    CHECK(read_sector(*image, state, 0) == 0);
  }
}

TEST_CASE("discards free clusters, which later writes take") {
  FileState state{.bytes = new_image(1 << 20, 12), .records = {}, .waiting = {}, .fault = {}};
  std::size_t size = 0;
  for (int round = 0; round < 6; ++round) {
    const auto image = open_image(state);
    Access write(Kind::write, 0, 1024);
    CHECK(run(*image, state, write) == BlockResult::ok);
    Access flush(Kind::flush, 0, 0);
    CHECK(run(*image, state, flush) == BlockResult::ok);
    if (round == 0) size = state.bytes.size();
    Access discard(Kind::discard, 0, 1024);
    CHECK(run(*image, state, discard) == BlockResult::ok);
    Access again(Kind::flush, 0, 0);
    CHECK(run(*image, state, again) == BlockResult::ok);
  }
  CHECK(state.bytes.size() == size);
  CHECK(leaked_clusters(state.bytes) == 0u);
}

}  // namespace
}  // namespace hum
