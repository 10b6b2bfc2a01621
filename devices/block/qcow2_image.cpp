// SPDX-License-Identifier: Apache-2.0
#include "devices/block/qcow2_image.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "devices/block/qcow2_compression.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using Place = Qcow2Tables::Place;
using Step = Qcow2Tables::Step;

constexpr std::array steps = {Step::refcounts, Step::l2, Step::l1};

// Adds the part of the buffers that begins at offset and has size bytes.
void add_slice(std::span<const iovec> buffers, std::uint64_t offset, std::uint64_t size,
               std::vector<iovec>& slice) {
  for (const iovec& each : buffers) {
    if (size == 0) return;
    if (offset >= each.iov_len) {
      offset -= each.iov_len;
      continue;
    }
    const std::uint64_t here = std::min<std::uint64_t>(each.iov_len - offset, size);
    slice.push_back({static_cast<std::byte*>(each.iov_base) + offset, here});
    size -= here;
    offset = 0;
  }
}

// What bytes has no more of is zeroes.
void copy_to_slice(std::span<const iovec> slice, std::span<const std::byte> bytes) {
  for (const iovec& each : slice) {
    const std::size_t here = std::min(each.iov_len, bytes.size());
    if (here != 0) std::memcpy(each.iov_base, bytes.data(), here);
    std::memset(static_cast<std::byte*>(each.iov_base) + here, 0, each.iov_len - here);
    bytes = bytes.subspan(here);
  }
}

}  // namespace

// A piece of an operation, on its way.
class Qcow2Image::Part final : public BlockOperation {
 public:
  enum class Role : std::uint8_t { read, overwrite, fill, first_write };

  void finished(BlockResult how) override { image->part_finished(*this, how); }

  Qcow2Image* image = nullptr;
  BlockEngine* engine = nullptr;
  Whole* whole = nullptr;
  Role role = Role::read;
  std::vector<iovec> slice;
  // first_write: the clusters, and what of them the guest does not write
  std::uint64_t begin = 0;  // in the guest's disk
  Qcow2Tables::Run run;
  std::vector<std::byte> around;  // lent by the image
  unsigned fills = 0;
  BlockResult fill_result = BlockResult::ok;
  BlockResult write_result = BlockResult::ok;
  Part* filled = nullptr;  // fill: for whom
};

class Qcow2Image::Sync final : public BlockOperation {
 public:
  explicit Sync(Qcow2Image& image) : image_(image) { kind = Kind::flush; }
  void start(BlockEngine& engine) {
    engine_ = &engine;
    image_.file_->start(engine, *this);
  }
  void finished(BlockResult how) override {
    if (how != BlockResult::ok) return image_.end_write_out(*engine_, image_.tables_.failed(how));
    image_.write_out_next(*engine_);
  }

 private:
  Qcow2Image& image_;
  BlockEngine* engine_ = nullptr;
};

Qcow2Image::Qcow2Image(const std::string& key, std::unique_ptr<ImageFile> file, const Qcow2Header& header,
                       std::unique_ptr<BlockBackend> backing, Settings settings, const Log& log)
    : header_(header),
      size_(header.virtual_size),
      file_(std::move(file)),
      backing_(std::move(backing)),
      settings_(std::move(settings)),
      log_(log),
      tables_(key, settings_.name, *file_, header_, settings_.metadata_cache, settings_.read_only),
      sync_(std::make_unique<Sync>(*this)) {
  if (settings_.read_only) return;
  if (header_.corrupt || header_.dirty)
    throw ConfigError(
        key, settings_.name,
        header_.corrupt ? "is marked as corrupt" : "was not closed, and its reference counts may be wrong",
        "repair it with 'hum disk check --repair all', or use it read-only");
  // Features that say something about content which is about to change (bitmaps).
  if (header_.autoclear_features != 0) {
    const std::array<std::byte, 8> none{};
    if (file_->write(88, none) != BlockResult::ok || file_->sync() != BlockResult::ok)
      throw ConfigError(key, settings_.name, "cannot be written to",
                        "see the host's log, or use it read-only");
  }
}

Qcow2Image::~Qcow2Image() {
  if (settings_.read_only) return;
  // What is freed by the first can be counted down by the second.
  BlockResult result = BlockResult::ok;
  for (int round = 0; round < 2 && tables_.dirty() && result == BlockResult::ok; ++round) {
    result = tables_.write_out();
    tables_.settle();
  }
  if (result != BlockResult::ok)
    log_.warning("disk '" + settings_.name +
                 "': the host refuses its last changes; what was flushed before is there");
}

std::uint32_t Qcow2Image::physical_block_size() const {
  return 4096;
}

void Qcow2Image::start(BlockEngine& engine, BlockOperation& operation) {
  switch (operation.kind) {
    case Kind::read:
      return start_read(engine, operation);
    case Kind::write: {
      Whole& whole = begin_whole(operation);
      write_range(engine, whole, operation.offset, operation.size);
      return release(whole, BlockResult::ok);
    }
    case Kind::flush:
      return start_flush(engine, operation);
    case Kind::discard:
    case Kind::write_zeroes:
      return forget_range(operation);
  }
}

// ---- reading

void Qcow2Image::start_read(BlockEngine& engine, BlockOperation& operation) {
  Qcow2Tables::Extent extent;
  if (const BlockResult result = tables_.find(operation.offset, operation.size, extent);
      result != BlockResult::ok)
    return operation.finished(result);
  if (extent.size == operation.size) {
    // Most are here: one piece.
    if (extent.place == Place::data && extent.host + extent.size <= tables_.file_end()) {
      operation.offset = extent.host;
      return file_->start(engine, operation);
    }
    if (extent.place == Place::nowhere && backing_ != nullptr &&
        operation.offset + operation.size <= backing_->size())
      return backing_->start(engine, operation);
  }
  Whole& whole = begin_whole(operation);
  std::uint64_t offset = operation.offset;
  const std::uint64_t end = operation.offset + operation.size;
  for (;;) {
    read_extent(engine, whole, offset, extent);
    offset += extent.size;
    if (offset == end) break;
    if (const BlockResult result = tables_.find(offset, end - offset, extent); result != BlockResult::ok) {
      whole.result = result;
      break;
    }
  }
  release(whole, BlockResult::ok);
}

void Qcow2Image::read_extent(BlockEngine& engine, Whole& whole, std::uint64_t offset,
                             const Qcow2Tables::Extent& extent) {
  Part& part = new_part(engine, &whole);
  part.role = Part::Role::read;
  part.kind = Kind::read;
  const std::uint64_t from = offset - whole.operation->offset;
  // What can be read of it; the rest is zeroes.
  std::uint64_t there = 0;
  if (extent.place == Place::data)
    there = std::min(extent.size, tables_.file_end() - std::min(tables_.file_end(), extent.host));
  if (extent.place == Place::nowhere && backing_ != nullptr)
    there = std::min(extent.size, backing_->size() - std::min(backing_->size(), offset));
  add_slice(whole.operation->buffers, from + there, extent.size - there, part.slice);
  if (extent.place == Place::compressed) {
    if (!decompress(extent)) return end_part(part, BlockResult::io_error);
    copy_to_slice(part.slice, std::span(decompressed_).subspan(offset - cluster_begin(offset)));
  } else {
    copy_to_slice(part.slice, {});
  }
  if (there == 0) return end_part(part, BlockResult::ok);
  part.slice.clear();
  add_slice(whole.operation->buffers, from, there, part.slice);
  part.buffers = part.slice;
  part.size = there;
  part.offset = extent.place == Place::data ? extent.host : offset;
  if (extent.place == Place::data)
    file_->start(engine, part);
  else
    backing_->start(engine, part);
}

// One cluster, into decompressed_.
bool Qcow2Image::decompress(const Qcow2Tables::Extent& extent) {
  if (decompressed_host_ == extent.host) return true;
  decompressed_host_ = UINT64_MAX;
  compressed_.resize(extent.compressed_size);
  decompressed_.resize(header_.cluster_size());
  if (file_->read(extent.host, compressed_) != BlockResult::ok) return false;
  const bool done = decompress_cluster(header_.compression, compressed_, decompressed_);
  if (done) decompressed_host_ = extent.host;
  return done;
}

// ---- writing

void Qcow2Image::write_range(BlockEngine& engine, Whole& whole, std::uint64_t offset, std::uint64_t size) {
  while (size != 0) {
    Qcow2Tables::Extent extent;
    BlockResult result = tables_.find(offset, size, extent);
    const bool own = extent.place == Place::data && extent.own;
    if (result == BlockResult::ok && own) result = tables_.check_own(extent);
    if (result != BlockResult::ok) {
      whole.result = result;
      return;
    }
    std::uint64_t taken = extent.size;
    if (must_wait(own ? 0 : cluster_begin(offset), own ? 0 : cluster_end(offset + extent.size))) {
      ++whole.pending;
      waiting_.push_back({&whole, nullptr, offset, extent.size});
    } else if (own) {
      overwrite(engine, whole, offset, extent);
    } else {
      taken = write_new(engine, whole, offset, extent.size);
      if (taken == 0) return;
    }
    offset += taken;
    size -= taken;
  }
}

// What is around their writes is in memory meanwhile: of 2 MiB clusters few may be new at a time.
std::size_t Qcow2Image::most_allocating() const {
  return std::max<std::size_t>(4, (std::size_t{8} << 20) / header_.cluster_size());
}

// An empty range waits for nothing but the reuse of freed clusters.
bool Qcow2Image::must_wait(std::uint64_t begin, std::uint64_t end) {
  if (!settle()) return true;
  if (begin == end) return false;
  return writing_out_ || allocating_.size() == most_allocating() ||
         std::any_of(allocating_.begin(), allocating_.end(), [&](const Part* each) {
           return begin < each->begin + each->run.clusters * header_.cluster_size() && each->begin < end;
         });
}

void Qcow2Image::overwrite(BlockEngine& engine, Whole& whole, std::uint64_t offset,
                           const Qcow2Tables::Extent& extent) {
  Part& part = new_part(engine, &whole);
  part.role = Part::Role::overwrite;
  part.kind = Kind::write;
  add_slice(whole.operation->buffers, offset - whole.operation->offset, extent.size, part.slice);
  part.buffers = part.slice;
  part.offset = extent.host;
  part.size = extent.size;
  ++writes_under_way_;
  file_->start(engine, part);
}

// Into clusters that nothing leads to yet. How much of it; 0 where there are none.
std::uint64_t Qcow2Image::write_new(BlockEngine& engine, Whole& whole, std::uint64_t offset,
                                    std::uint64_t size) {
  const std::uint64_t begin = cluster_begin(offset);
  Qcow2Tables::Run run;
  const std::uint64_t wanted = (cluster_end(offset + size) - begin) / header_.cluster_size();
  if (const BlockResult result = tables_.allocate(wanted, run); result != BlockResult::ok) {
    whole.result = result;
    return 0;
  }
  Part& part = new_part(engine, &whole);
  part.role = Part::Role::first_write;
  part.begin = begin;
  part.run = run;
  allocating_.push_back(&part);
  const std::uint64_t run_end = begin + run.clusters * header_.cluster_size();
  const std::uint64_t end = std::min(offset + size, run_end);
  const std::uint64_t head = offset - begin;
  const std::uint64_t tail = run_end - end;
  if (!free_around_.empty()) {
    part.around = std::move(free_around_.back());
    free_around_.pop_back();
  }
  part.around.resize(head + tail);
  const auto around = std::span(part.around);
  if (head != 0) part.slice.push_back({around.data(), head});
  add_slice(whole.operation->buffers, offset - whole.operation->offset, end - offset, part.slice);
  if (tail != 0) part.slice.push_back({around.data() + head, tail});
  part.fills = 1;
  part.fill_result = BlockResult::ok;
  fill(part, begin, around.first(head));
  fill(part, end, around.subspan(head));
  if (--part.fills == 0) write_filled(part);
  return end - offset;
}

// What was there before.
void Qcow2Image::fill(Part& part, std::uint64_t offset, std::span<std::byte> bytes) {
  const std::uint64_t there = std::min<std::uint64_t>(bytes.size(), size() - std::min(size(), offset));
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(there), bytes.end(), std::byte{0});
  if (there == 0) return;
  Part& read = new_part(*part.engine, nullptr);
  read.role = Part::Role::fill;
  read.kind = Kind::read;
  read.filled = &part;
  read.slice.push_back({bytes.data(), there});
  read.buffers = read.slice;
  read.offset = offset;
  read.size = there;
  ++part.fills;
  start_read(*part.engine, read);
}

void Qcow2Image::write_filled(Part& part) {
  if (part.fill_result != BlockResult::ok) {
    part.write_result = part.fill_result;
    return link(part);
  }
  part.kind = Kind::write;
  part.buffers = part.slice;
  part.offset = part.run.host;
  part.size = part.run.clusters * header_.cluster_size();
  ++writes_under_way_;
  file_->start(*part.engine, part);
}

// The data are in the file, or not.
void Qcow2Image::link(Part& part) {
  if (writing_out_) {
    unlinked_.push_back(&part);
    return;
  }
  std::erase(allocating_, &part);
  free_around_.push_back(std::move(part.around));
  BlockResult result = part.write_result;
  if (result == BlockResult::ok)
    result = tables_.link(part.begin, part.run);
  else
    tables_.release(part.run);
  end_part(part, result);
}

void Qcow2Image::part_finished(Part& part, BlockResult result) {
  BlockEngine& engine = *part.engine;
  switch (part.role) {
    case Part::Role::read:
      return end_part(part, result);
    case Part::Role::fill: {
      Part& filled = *part.filled;
      if (result != BlockResult::ok) filled.fill_result = result;
      end_part(part, result);
      if (--filled.fills == 0) write_filled(filled);
      return;
    }
    case Part::Role::overwrite:
      --writes_under_way_;
      end_part(part, result);
      break;
    case Part::Role::first_write:
      --writes_under_way_;
      part.write_result = result;
      link(part);
      break;
  }
  go_on(engine);
}

// ---- discard, write zeroes

void Qcow2Image::forget_range(BlockOperation& operation) {
  const bool discard = operation.kind == Kind::discard;
  // The disk's last cluster may be a part of one.
  const std::uint64_t operation_end = operation.offset + operation.size;
  const std::uint64_t begin = cluster_end(operation.offset);
  const std::uint64_t end =
      operation_end == size() ? cluster_end(operation_end) : cluster_begin(operation_end);
  const bool can_be_zero = backing_ == nullptr || header_.version >= 3;
  if (!discard && (begin != operation.offset || end < operation_end || !operation.may_unmap || !can_be_zero))
    return operation.finished(BlockResult::unsupported);
  // A discard is a hint; what the backing image has must not come back.
  if (begin >= end || !can_be_zero) return operation.finished(BlockResult::ok);
  if (must_wait(begin, end)) {
    waiting_.push_back({nullptr, &operation, operation.offset, operation.size});
    return;
  }
  operation.finished(tables_.unlink(begin, (end - begin) / header_.cluster_size(),
                                    backing_ == nullptr ? Place::nowhere : Place::zero));
}

// ---- flushes

void Qcow2Image::start_flush(BlockEngine& engine, BlockOperation& operation) {
  if (writing_out_) {
    next_flushes_.push_back(&operation);
    return;
  }
  if (!tables_.dirty()) return file_->start(engine, operation);
  writing_out_ = true;
  step_ = 0;
  flushes_.push_back(&operation);
  write_out_next(engine);
}

void Qcow2Image::write_out_next(BlockEngine& engine) {
  // The first sync is for the data, too.
  while (step_ < steps.size() && step_ != 0 && !tables_.has(steps[step_])) ++step_;
  if (step_ == steps.size()) {
    tables_.written_out();
    return end_write_out(engine, BlockResult::ok);
  }
  if (const BlockResult result = tables_.write(steps[step_++]); result != BlockResult::ok)
    return end_write_out(engine, result);
  sync_->start(engine);
}

void Qcow2Image::end_write_out(BlockEngine& engine, BlockResult result) {
  writing_out_ = false;
  for (BlockOperation* const each : std::exchange(flushes_, {})) each->finished(result);
  for (Part* const each : std::exchange(unlinked_, {})) link(*each);
  for (BlockOperation* const each : std::exchange(next_flushes_, {})) start_flush(engine, *each);
  go_on(engine);
}

// False while clusters wait to be used again until no write can reach them any more.
bool Qcow2Image::settle() {
  if (tables_.settled()) return true;
  if (writes_under_way_ != 0) return false;
  tables_.settle();
  return true;
}

// After anything that something may wait for.
void Qcow2Image::go_on(BlockEngine& engine) {
  if (!settle()) return;
  for (std::size_t count = waiting_.size(); count != 0 && !waiting_.empty(); --count) {
    const Waiting each = waiting_.front();
    waiting_.pop_front();
    if (each.operation != nullptr) {
      forget_range(*each.operation);
    } else {
      write_range(engine, *each.whole, each.offset, each.size);
      release(*each.whole, BlockResult::ok);
    }
  }
}

// ---- what is reused

Qcow2Image::Whole& Qcow2Image::begin_whole(BlockOperation& operation) {
  if (free_wholes_.empty()) {
    wholes_.push_back(std::make_unique<Whole>());
    free_wholes_.push_back(wholes_.back().get());
  }
  Whole& whole = *free_wholes_.back();
  free_wholes_.pop_back();
  whole = {.operation = &operation, .pending = 1};
  return whole;
}

void Qcow2Image::release(Whole& whole, BlockResult result) {
  if (result != BlockResult::ok) whole.result = result;
  if (--whole.pending != 0) return;
  BlockOperation& operation = *whole.operation;
  const BlockResult all = whole.result;
  free_wholes_.push_back(&whole);
  operation.finished(all);
}

Qcow2Image::Part& Qcow2Image::new_part(BlockEngine& engine, Whole* whole) {
  if (free_parts_.empty()) {
    parts_.push_back(std::make_unique<Part>());
    free_parts_.push_back(parts_.back().get());
  }
  Part& part = *free_parts_.back();
  free_parts_.pop_back();
  part.image = this;
  part.engine = &engine;
  part.whole = whole;
  part.slice.clear();
  if (whole != nullptr) ++whole->pending;
  return part;
}

void Qcow2Image::end_part(Part& part, BlockResult result) {
  Whole* const whole = part.whole;
  free_parts_.push_back(&part);
  if (whole != nullptr) release(*whole, result);
}

}  // namespace hum
