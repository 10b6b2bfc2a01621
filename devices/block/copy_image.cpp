// SPDX-License-Identifier: Apache-2.0
#include "devices/block/copy_image.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "devices/block/block_wait.h"
#include "devices/block/qcow2_compression.h"

namespace hum {
namespace {

using Kind = BlockOperation::Kind;

constexpr std::uint64_t chunk_size = 1 << 20;
constexpr std::uint64_t least_piece = 64 << 10;  // smaller holes are read, too
constexpr std::size_t lanes = 8;
constexpr std::size_t page = 4096;

struct FreeMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<std::byte, FreeMemory>;

// Aligned for direct I/O.
Memory allocate(std::size_t size) {
  return Memory(static_cast<std::byte*>(std::aligned_alloc(page, size)));
}

CopyResult of_source(BlockResult result) {
  return CopyOutcome{result, true};
}

CopyResult of_target(BlockResult result) {
  return CopyOutcome{result, false};
}

CopyResult flushed(BlockBackend& target, BlockEngine& engine) {
  return of_target(flush_now(target, engine));
}

struct Range {
  std::uint64_t begin;
  std::uint64_t end;
};

// The parts of a disk that may have anything but zeroes, in order, in pieces of a chunk at most.
class Content {
 public:
  Content(BlockBackend& source, std::uint64_t unit) : source_(source), unit_(std::max(unit, least_piece)) {}

  // How far it looked.
  std::uint64_t done() const { return next_; }

  // Of no size at the end.
  BlockResult next(Range& range) {
    const std::uint64_t size = source_.size();
    while (next_ < size && next_ >= known_) {
      BlockExtent extent;
      if (const BlockResult result = source_.find_extent(next_, size - next_, extent);
          result != BlockResult::ok)
        return result;
      const std::uint64_t end = next_ + extent.size;
      if (extent.zero)
        next_ = end == size ? size : std::max(next_, end / unit_ * unit_);
      else
        known_ = std::min(size, (end + unit_ - 1) / unit_ * unit_);
      // A hole that is smaller than a unit is copied like what is around it.
      if (extent.zero && next_ < end && next_ + unit_ > end) known_ = std::min(size, next_ + unit_);
    }
    range = {next_, std::min(known_, (next_ / chunk_size + 1) * chunk_size)};
    if (next_ >= size) range = {size, size};
    next_ = range.end;
    return BlockResult::ok;
  }

 private:
  BlockBackend& source_;
  std::uint64_t unit_;
  std::uint64_t next_ = 0;
  std::uint64_t known_ = 0;  // all before it is to be copied
};

// Several pieces at a time, each read and then written.
class Copy {
 public:
  Copy(BlockBackend& source, BlockBackend& target, BlockEngine& engine, std::uint64_t unit)
      : source_(source), target_(target), engine_(engine), unit_(unit), content_(source, unit) {
    for (auto& lane : lanes_) lane = std::make_unique<Lane>(*this);
    for (auto& lane : lanes_) ready_.push_back(lane.get());
  }

  CopyResult run(const CopyProgress& progress) {
    bool go_on = true;
    while (!ready_.empty() || under_way_ != 0) {
      while (!ready_.empty()) {
        Lane& lane = *ready_.front();
        ready_.pop_front();
        if (lane.outcome != BlockResult::ok) outcome_ = {lane.outcome, lane.kind == Kind::read};
        // Also while nothing is under way: what is decompressed is there at once.
        go_on = go_on && progress(content_.done(), source_.size());
        if (outcome_.result == BlockResult::ok && go_on) step(lane);
      }
      if (under_way_ == 0) break;
      engine_.submit();
      engine_.reap();
      if (ready_.empty()) {
        pollfd waited{engine_.ready_fd(), POLLIN, 0};
        ::poll(&waited, 1, 100);
        engine_.reap();
      }
      go_on = go_on && progress(content_.done(), source_.size());
    }
    if (outcome_.result != BlockResult::ok) return outcome_;
    if (!go_on) return std::nullopt;
    return flushed(target_, engine_);
  }

 private:
  struct Lane final : BlockOperation {
    explicit Lane(Copy& owner) : copy(owner), memory(allocate(chunk_size)) {}
    void finished(BlockResult how) override {
      outcome = how;
      --copy.under_way_;
      copy.ready_.push_back(this);
    }

    Copy& copy;
    Memory memory;
    iovec part{};
    BlockResult outcome = BlockResult::ok;
    Range range{0, 0};        // what memory has
    std::uint64_t wrote = 0;  // up to here
  };

  void step(Lane& lane) {
    if (write_next(lane)) return;
    if (const BlockResult result = content_.next(lane.range); result != BlockResult::ok) {
      outcome_ = {result, true};
      return;
    }
    if (lane.range.begin == lane.range.end) return;
    lane.wrote = lane.range.begin;
    begin(source_, lane, Kind::read, lane.range);
  }

  // The next part of what was read that is not all zeroes.
  bool write_next(Lane& lane) {
    const auto zero = [&](std::uint64_t begin) {
      const std::uint64_t end = std::min(begin + unit_, lane.range.end);
      return is_zero({lane.memory.get() + (begin - lane.range.begin), end - begin});
    };
    std::uint64_t begin = lane.wrote;
    while (begin < lane.range.end && zero(begin)) begin += unit_;
    if (begin >= lane.range.end) return false;
    std::uint64_t end = begin + unit_;
    while (end < lane.range.end && !zero(end)) end += unit_;
    lane.wrote = std::min(end, lane.range.end);
    this->begin(target_, lane, Kind::write, {begin, lane.wrote});
    return true;
  }

  void begin(BlockBackend& image, Lane& lane, Kind kind, Range range) {
    lane.kind = kind;
    lane.offset = range.begin;
    lane.size = range.end - range.begin;
    lane.part = {lane.memory.get() + (range.begin - lane.range.begin), lane.size};
    lane.buffers = {&lane.part, 1};
    ++under_way_;
    image.start(engine_, lane);
  }

  BlockBackend& source_;
  BlockBackend& target_;
  BlockEngine& engine_;
  std::uint64_t unit_;
  Content content_;
  std::array<std::unique_ptr<Lane>, lanes> lanes_;
  std::deque<Lane*> ready_;
  std::size_t under_way_ = 0;
  CopyOutcome outcome_;
};

}  // namespace

bool is_zero(std::span<const std::byte> bytes) {
  return bytes.empty() ||
         (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

CopyResult copy_image(BlockBackend& source, BlockBackend& target, BlockEngine& engine, std::uint64_t unit,
                      const CopyProgress& progress) {
  return Copy(source, target, engine, unit).run(progress);
}

CopyResult copy_differences(BlockBackend& source, BlockBackend& target, BlockEngine& engine,
                            std::uint64_t unit, const CopyProgress& progress) {
  const Memory wanted = allocate(chunk_size);
  const Memory there = allocate(chunk_size);
  for (std::uint64_t at = 0; at < source.size();) {
    if (!progress(at, source.size())) return std::nullopt;
    const std::uint64_t size = std::min(chunk_size, source.size() - at);
    const std::span<std::byte> from(wanted.get(), size);
    const std::span<std::byte> to(there.get(), size);
    if (const BlockResult result = read_now(source, engine, at, from); result != BlockResult::ok)
      return of_source(result);
    BlockResult result = read_now(target, engine, at, to);
    for (std::uint64_t begin = 0; result == BlockResult::ok && begin < size; begin += unit) {
      const std::uint64_t here = std::min(unit, size - begin);
      if (std::memcmp(from.data() + begin, to.data() + begin, here) != 0)
        result = write_now(target, engine, at + begin, from.subspan(begin, here));
    }
    if (result != BlockResult::ok) return of_target(result);
    at += size;
  }
  return flushed(target, engine);
}

CopyResult copy_compressed(BlockBackend& source, Qcow2Image& target, BlockEngine& engine,
                           const CopyProgress& progress) {
  const std::uint64_t cluster = target.header().cluster_size();
  const std::uint64_t batch = std::max<std::uint64_t>(chunk_size, 8 * cluster);
  const Memory memory = allocate(batch);
  const std::size_t threads = std::clamp(std::thread::hardware_concurrency(), 1u, 8u);
  for (std::uint64_t at = 0; at < source.size(); at += batch) {
    if (!progress(at, source.size())) return std::nullopt;
    const std::uint64_t size = std::min(batch, source.size() - at);
    const std::uint64_t clusters = (size + cluster - 1) / cluster;
    const std::span<std::byte> bytes(memory.get(), clusters * cluster);
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(size), bytes.end(), std::byte{0});
    BlockExtent extent;
    BlockResult result = source.find_extent(at, size, extent);
    if (result == BlockResult::ok && extent.zero && extent.size == size) continue;
    if (result == BlockResult::ok) result = read_now(source, engine, at, bytes.first(size));
    if (result != BlockResult::ok) return of_source(result);

    struct Compressed {
      bool zero = false;
      std::vector<std::byte> content;
    };
    std::vector<Compressed> done(clusters);
    const auto work = [&](std::size_t first) {
      for (std::size_t i = first; i < clusters; i += threads) {
        const auto from = bytes.subspan(i * cluster, cluster);
        done[i].zero = is_zero(from);
        if (!done[i].zero) done[i].content = compress_cluster(target.header().compression, from);
      }
    };
    std::vector<std::future<void>> others;
    for (std::size_t i = 1; i < std::min<std::size_t>(threads, clusters); ++i)
      others.push_back(std::async(std::launch::async, work, i));
    work(0);
    for (auto& each : others) each.get();
    for (std::size_t i = 0; i < clusters; ++i) {
      if (done[i].zero) continue;
      const std::uint64_t offset = at + i * cluster;
      result = done[i].content.empty()
                   ? write_now(target, engine, offset,
                               bytes.subspan(i * cluster, std::min(cluster, source.size() - offset)))
                   : target.add_compressed(offset, done[i].content);
      if (result != BlockResult::ok) return of_target(result);
    }
  }
  return flushed(target, engine);
}

CopyResult commit_image(Qcow2Image& overlay, BlockEngine& engine, const CopyProgress& progress) {
  BlockBackend& base = *overlay.backing();
  if (base.size() < overlay.size()) {
    if (const BlockResult result = base.resize(engine, overlay.size()); result != BlockResult::ok)
      return of_target(result);
  }
  const Memory memory = allocate(chunk_size);
  for (std::uint64_t at = 0; at < overlay.size();) {
    if (!progress(at, overlay.size())) return std::nullopt;
    BlockExtent extent;
    if (const BlockResult result = overlay.find_extent(at, overlay.size() - at, extent);
        result != BlockResult::ok)
      return of_source(result);
    BlockResult result = BlockResult::ok;
    if (extent.depth == 0 && extent.present) {
      extent.size = std::min(extent.size, chunk_size);
      const std::span<std::byte> bytes(memory.get(), extent.size);
      if (extent.zero) result = forget_now(base, engine, Kind::write_zeroes, at, extent.size);
      // Also where the image below cannot make zeroes in another way.
      if (!extent.zero || result == BlockResult::unsupported) {
        result = read_now(overlay, engine, at, bytes);
        if (result != BlockResult::ok) return of_source(result);
        result = write_now(base, engine, at, bytes);
      }
    }
    if (result != BlockResult::ok) return of_target(result);
    at += extent.size;
  }
  if (const BlockResult result = flush_now(base, engine); result != BlockResult::ok) return of_target(result);
  if (!progress(overlay.size(), overlay.size())) return std::nullopt;
  return of_source(overlay.clear());
}

}  // namespace hum
