// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "devices/block/qcow2_testing.h"
#include "vmm/base/testing.h"

// For tests of qcow2 images: a guest that uses one, and losses of power.
namespace hum::testing {

using Kind = BlockOperation::Kind;

inline constexpr std::uint64_t sector = 512;

inline std::vector<std::byte> new_image(std::uint64_t size, unsigned cluster_bits) {
  MemoryImageFile file;
  Qcow2Header header;
  header.virtual_size = size;
  header.cluster_bits = cluster_bits;
  write_new_qcow2("disk.path", "test", file, header);
  return file.bytes;
}

inline std::unique_ptr<Qcow2Image> open_image(FileState& state,
                                              std::unique_ptr<BlockBackend> backing = nullptr,
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

inline BlockResult run(BlockBackend& image, FileState& state, Access& access) {
  FileStateEngine engine(state);
  std::mt19937 random(1);
  image.start(engine, access);
  while (state.finish_one(random)) {
  }
  return access.outcome.value();
}

inline std::uint32_t read_sector(BlockBackend& image, FileState& state, std::uint64_t index) {
  Access read(Kind::read, index, 1);
  REQUIRE(run(image, state, read) == BlockResult::ok);
  return read.at(0);
}

// A guest that writes, discards and flushes, several at a time where they do not overlap, over a disk of so
// many sectors.
class Qcow2Guest {
 public:
  Qcow2Guest(unsigned seed, std::uint64_t sectors, bool has_backing)
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

  void steps(BlockBackend& image, FileState& state, unsigned count) {
    FileStateEngine engine(state);
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
  void check_all(BlockBackend& image, FileState& state) {
    Access read(Kind::read, 0, sectors_);
    REQUIRE(run(image, state, read) == BlockResult::ok);
    std::vector<std::uint32_t> there(sectors_);
    for (std::uint64_t i = 0; i < sectors_; ++i) there[i] = read.at(i);
    REQUIRE(there == values_);
  }

  // For a crash: after how many records of the file each sector could have which values, and the disk which
  // sizes (sectors).
  struct Point {
    std::size_t records;
    std::vector<std::set<std::uint32_t>> possible;
    std::set<std::uint64_t> sizes;
  };
  std::vector<Point> points;

  // A disk that grows or shrinks; meanwhile the file could be cut at any record.
  void resize(BlockBackend& image, FileState& state, std::uint64_t sectors) {
    const std::size_t before = state.records.size();
    // What a disk that shrinks has behind its new end does not matter any more.
    for (std::uint64_t i = sectors; i < sectors_; ++i) possible_[i].clear();
    FinishingEngine engine({&state});
    REQUIRE(image.resize(engine, sectors * sector) == BlockResult::ok);
    for (std::size_t i = before + 1; i < state.records.size(); ++i)
      points.push_back({i, possible_, {sectors_, sectors}});
    sectors_ = sectors;
    values_.resize(sectors);
    possible_.resize(sectors, {0});
    may_be_zero_.resize(sectors);
    last_zeroes_.resize(sectors);
    points.push_back({state.records.size(), possible_, {sectors_}});
  }

  const std::vector<std::uint32_t>& values() const { return values_; }
  std::uint64_t sectors() const { return sectors_; }

 private:
  void begin_one(BlockBackend& image, BlockEngine& engine) {
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
    points.push_back({state.records.size(), possible_, {sectors_}});
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
  void look_at_forgotten(BlockBackend& image, FileState& state) {
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

// The file after a loss of power: what was written before the last sync of so many records is there; of what
// came later any sectors.
inline std::vector<std::byte> after_crash(std::vector<std::byte> bytes,
                                          const std::vector<FileRecord>& records, std::size_t count,
                                          std::mt19937& random) {
  std::size_t safe = 0;
  for (std::size_t i = 0; i < count; ++i)
    if (records[i].sync) safe = i;
  const std::uint_fast32_t kept = random() % 5;  // of four; all at 4
  for (std::size_t i = 0; i < count; ++i) {
    const FileRecord& each = records[i];
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

}  // namespace hum::testing
