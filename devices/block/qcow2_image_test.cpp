// SPDX-License-Identifier: Apache-2.0
#include "devices/block/qcow2_image.h"

#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "devices/block/qcow2_testing.h"
#include "devices/block/testing.h"
#include "devices/temporary_file.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using Kind = BlockOperation::Kind;
using testing::FileState;
using testing::LateFile;
using testing::leaked_clusters;
using testing::MemoryImageFile;
using testing::NoEngine;

constexpr std::uint64_t sector = 512;

std::vector<std::byte> new_image(std::uint64_t size, unsigned cluster_bits) {
  MemoryImageFile file;
  Qcow2Header header;
  header.virtual_size = size;
  header.cluster_bits = cluster_bits;
  write_new_qcow2("disk.path", "test", file, header);
  return file.bytes;
}

std::unique_ptr<Qcow2Image> open_image(FileState& state, std::unique_ptr<BlockBackend> backing = nullptr,
                                       std::uint64_t cache = 1 << 20, bool read_only = false) {
  static const Log log;
  MemoryImageFile file(state.bytes);
  const Qcow2Header header = read_qcow2_header("disk.path", "test", file);
  return std::make_unique<Qcow2Image>("disk.path", std::make_unique<LateFile>(state), header,
                                      std::move(backing), Qcow2Image::Settings{"test", read_only, cache},
                                      log);
}

// A disk below: sector n begins with the number n + a million.
class Backing final : public BlockBackend {
 public:
  explicit Backing(std::uint64_t bytes) : bytes_(bytes) {}
  std::uint64_t size() const override { return bytes_; }
  std::uint32_t logical_block_size() const override { return 512; }
  std::uint32_t physical_block_size() const override { return 512; }
  bool has_discard() const override { return false; }
  void start(BlockEngine& /*engine*/, BlockOperation& operation) override {
    std::uint64_t at = operation.offset;
    for (const iovec& part : operation.buffers) {
      for (std::size_t i = 0; i < part.iov_len; ++i, ++at)
        static_cast<std::byte*>(part.iov_base)[i] = byte_at(at);
    }
    operation.finished(BlockResult::ok);
  }
  static std::byte byte_at(std::uint64_t at) {
    return static_cast<std::byte>(at % sector < 4 ? (at / sector + 1'000'000) >> at % sector * 8 : 0);
  }

 private:
  std::uint64_t bytes_;
};

// An operation with its own memory: each sector begins with a number.
struct Access final : BlockOperation {
  Access(Kind what, std::uint64_t first, std::uint64_t count) : memory(count * sector), parts{} {
    kind = what;
    offset = first * sector;
    size = count * sector;
    if (what != Kind::read && what != Kind::write) return;
    // Two buffers that do not end where sectors do.
    const std::size_t half = memory.size() / 2 + 7;
    parts = {{memory.data(), half}, {memory.data() + half, memory.size() - half}};
    buffers = parts;
  }
  void finished(BlockResult how) override { outcome = how; }
  std::uint32_t at(std::uint64_t index) const {
    std::uint32_t value = 0;
    std::memcpy(&value, memory.data() + index * sector, 4);
    return value;
  }
  void set(std::uint64_t index, std::uint32_t value) {
    std::memcpy(memory.data() + index * sector, &value, 4);
  }

  std::vector<std::byte> memory;
  std::vector<iovec> parts;
  std::optional<BlockResult> outcome;
};

BlockResult run(Qcow2Image& image, FileState& state, Access& access) {
  NoEngine engine;
  std::mt19937 random(1);
  image.start(engine, access);
  while (state.finish_one(random)) {
  }
  return access.outcome.value();
}

std::uint32_t read_sector(Qcow2Image& image, FileState& state, std::uint64_t index) {
  Access read(Kind::read, index, 1);
  REQUIRE(run(image, state, read) == BlockResult::ok);
  return read.at(0);
}

// A guest that writes, discards and flushes, several at a time where they do not overlap, over a disk of so
// many sectors.
class Guest {
 public:
  Guest(unsigned seed, std::uint64_t sectors, bool has_backing)
      : random_(seed),
        sectors_(sectors),
        values_(sectors),
        possible_(sectors),
        may_be_zero_(sectors),
        last_zeroes_(sectors) {
    for (std::uint64_t i = 0; i < sectors; ++i)
      values_[i] = has_backing ? static_cast<std::uint32_t>(i + 1'000'000) : 0;
    for (std::uint64_t i = 0; i < sectors; ++i) possible_[i] = {values_[i]};
  }

  void steps(Qcow2Image& image, FileState& state, unsigned count) {
    NoEngine engine;
    while (count-- != 0) {
      if (random_() % 3 == 0 || busy_.size() > 6) state.finish_one(random_);
      begin_one(image, engine);
      collect(state);
    }
    while (!busy_.empty()) {
      REQUIRE(state.finish_one(random_));
      collect(state);
    }
  }

  // Each sector that is read has what was written last; of what is under way, either.
  void check_all(Qcow2Image& image, FileState& state) {
    Access read(Kind::read, 0, sectors_);
    REQUIRE(run(image, state, read) == BlockResult::ok);
    std::vector<std::uint32_t> there(sectors_);
    for (std::uint64_t i = 0; i < sectors_; ++i) there[i] = read.at(i);
    REQUIRE(there == values_);
  }

  // For a crash: after how many records of the file each sector could have which values.
  struct Point {
    std::size_t records;
    std::vector<std::set<std::uint32_t>> possible;
  };
  std::vector<Point> points;

  std::mt19937& random() { return random_; }
  std::uint64_t sectors() const { return sectors_; }

 private:
  void begin_one(Qcow2Image& image, NoEngine& engine) {
    const unsigned what = random_() % 16;
    const Kind kind = what < 10   ? Kind::write
                      : what < 12 ? Kind::flush
                      : what < 14 ? Kind::discard
                                  : Kind::write_zeroes;
    std::uint64_t first = random_() % sectors_;
    std::uint64_t count = 1 + random_() % std::min<std::uint64_t>(sectors_ - first, 24);
    if (kind != Kind::write && kind != Kind::flush) {
      first = first / 8 * 8;
      count = std::min<std::uint64_t>(8 * (1 + random_() % 3), sectors_ - first);
    }
    for (const auto& each : busy_)
      if (each->kind != Kind::flush && each->first < first + count && first < each->first + each->count)
        return;
    ++begun_;
    auto access = std::make_unique<Mine>(kind, first, count);
    access->may_unmap = true;
    if (kind == Kind::write) {
      for (std::uint64_t i = 0; i < count; ++i) {
        access->access.set(i, ++number_);
        possible_[first + i].insert(number_);
        access->values.push_back(number_);
      }
    } else if (kind == Kind::discard || kind == Kind::write_zeroes) {
      for (std::uint64_t i = 0; i < count; ++i) {
        possible_[first + i].insert(0);
        may_be_zero_[first + i] = true;
        last_zeroes_[first + i] = begun_;
      }
    } else {
      access->at_start = values_;
      access->may_be_zero = may_be_zero_;
      access->begun = begun_;
    }
    access->access.may_unmap = true;
    busy_.push_back(std::move(access));
    image.start(engine, busy_.back()->access);
  }

  void collect(FileState& state) {
    for (auto each = busy_.begin(); each != busy_.end();) {
      Mine& mine = **each;
      if (!mine.access.outcome) {
        ++each;
        continue;
      }
      finish(mine);
      each = busy_.erase(each);
    }
    points.push_back({state.records.size(), possible_});
  }

  struct Mine {
    Mine(Kind what, std::uint64_t from, std::uint64_t sectors)
        : kind(what), first(from), count(sectors), access(what, from, sectors) {}
    Kind kind;
    std::uint64_t first;
    std::uint64_t count;
    bool may_unmap = false;
    Access access;
    std::vector<std::uint32_t> values;
    std::vector<std::uint32_t> at_start;
    std::vector<bool> may_be_zero;
    std::uint64_t begun = 0;
  };

  void finish(Mine& mine) {
    const BlockResult result = *mine.access.outcome;
    if (mine.kind == Kind::write_zeroes && result == BlockResult::unsupported) return;
    REQUIRE(result == BlockResult::ok);
    if (mine.kind == Kind::write)
      std::copy(mine.values.begin(), mine.values.end(),
                values_.begin() + static_cast<std::ptrdiff_t>(mine.first));
    if (mine.kind == Kind::write)
      std::fill_n(may_be_zero_.begin() + static_cast<std::ptrdiff_t>(mine.first), mine.count, false);
    if (mine.kind == Kind::write_zeroes || mine.kind == Kind::discard) {
      // A discard changes whole clusters only: what is there now is known after the next read.
      for (std::uint64_t i = 0; i < mine.count; ++i) {
        if (mine.kind == Kind::write_zeroes)
          values_[mine.first + i] = 0;
        else
          forgotten_.push_back(mine.first + i);
      }
    }
    if (mine.kind == Kind::flush) {
      // What was finished before the flush began is what can be there, beside what came later.
      for (std::uint64_t i = 0; i < sectors_; ++i) {
        std::set<std::uint32_t> still{mine.at_start[i], values_[i]};
        for (const std::uint32_t value : possible_[i])
          if (value > mine.at_start[i]) still.insert(value);
        if (mine.may_be_zero[i] || last_zeroes_[i] > mine.begun) still.insert(0);
        possible_[i] = std::move(still);
      }
    }
  }

 public:
  // The guest does not care what is in sectors that it discarded: takes what is there.
  void look_at_forgotten(Qcow2Image& image, FileState& state) {
    for (const std::uint64_t each : std::exchange(forgotten_, {})) {
      const std::uint32_t value = read_sector(image, state, each);
      REQUIRE((value == values_[each] || value == 0));
      values_[each] = value;
    }
  }

 private:
  std::mt19937 random_;
  std::uint64_t sectors_;
  std::uint32_t number_ = 2'000'000;
  std::vector<std::uint32_t> values_;
  std::vector<std::set<std::uint32_t>> possible_;
  std::vector<bool> may_be_zero_;           // discarded or zeroed since the last write
  std::vector<std::uint64_t> last_zeroes_;  // the last discard or zeroing was begun as this one
  std::uint64_t begun_ = 0;
  std::vector<std::uint64_t> forgotten_;
  std::vector<std::unique_ptr<Mine>> busy_;
};

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
    Guest guest(seed, 1500, has_backing);
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

// The file after a loss of power: what was written before the last sync of so many records is there; of what
// came later any sectors.
std::vector<std::byte> after_crash(std::vector<std::byte> bytes,
                                   const std::vector<testing::FileRecord>& records, std::size_t count,
                                   std::mt19937& random) {
  std::size_t safe = 0;
  for (std::size_t i = 0; i < count; ++i)
    if (records[i].sync) safe = i;
  const std::uint_fast32_t kept = random() % 5;  // of four; all at 4
  for (std::size_t i = 0; i < count; ++i) {
    const testing::FileRecord& each = records[i];
    for (std::uint64_t at = 0; at < each.data.size();) {
      const std::uint64_t here =
          std::min<std::uint64_t>(sector - (each.offset + at) % sector, each.data.size() - at);
      if (i < safe || random() % 4 < kept) {
        if (each.offset + at + here > bytes.size()) bytes.resize(each.offset + at + here);
        std::copy_n(each.data.begin() + static_cast<std::ptrdiff_t>(at), here,
                    bytes.begin() + static_cast<std::ptrdiff_t>(each.offset + at));
      }
      at += here;
    }
  }
  return bytes;
}

TEST_CASE("after a loss of power at any moment the image is sound and has what was flushed") {
  const char* const wanted = std::getenv("HUM_CRASH_CUTS");
  const unsigned long all = wanted != nullptr ? std::stoul(wanted) : 600;
  unsigned long cuts = 0;
  for (unsigned seed = 1; cuts < all; ++seed) {
    const bool has_backing = seed % 2 == 0;
    const std::vector<std::byte> before = new_image(600 * sector, 9 + seed % 4);
    FileState state{.bytes = before, .records = {}, .waiting = {}, .fault = {}};
    Guest guest(seed, 600, has_backing);
    {
      const auto image = open_image(state, has_backing ? std::make_unique<Backing>(600 * sector) : nullptr,
                                    seed % 3 == 0 ? 0 : 1 << 20);
      guest.steps(*image, state, 80);
    }
    std::mt19937 random(seed);
    for (const Guest::Point& point : guest.points) {
      if (random() % 4 != 0) continue;
      ++cuts;
      INFO("seed " << seed << ", after " << point.records << " records");
      FileState crashed{.bytes = after_crash(before, state.records, point.records, random),
                        .records = {},
                        .waiting = {},
                        .fault = {}};
      const auto leaked = leaked_clusters(crashed.bytes);
      REQUIRE(leaked);
      const auto image = open_image(crashed, has_backing ? std::make_unique<Backing>(600 * sector) : nullptr);
      Access read(Kind::read, 0, 600);
      REQUIRE(run(*image, crashed, read) == BlockResult::ok);
      std::vector<std::uint64_t> wrong;
      for (std::uint64_t i = 0; i < 600; ++i)
        if (!point.possible[i].contains(read.at(i))) wrong.push_back(i);
      REQUIRE(wrong == std::vector<std::uint64_t>{});
    }
  }
  WARN("count: " << cuts << " cuts");
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
