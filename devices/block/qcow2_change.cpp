// SPDX-License-Identifier: Apache-2.0
//
// What is done to a qcow2 image as a whole.
#include <algorithm>

#include "devices/block/block_wait.h"
#include "devices/block/qcow2_format.h"
#include "devices/block/qcow2_image.h"

namespace hum {

using Place = Qcow2Tables::Place;

BlockResult Qcow2Image::resize(BlockEngine& engine, std::uint64_t size) {
  const std::uint64_t old = size_;
  if (size == old) return BlockResult::ok;
  const bool shrinks = size < old;
  if (settings_.read_only || size > qcow2_largest_file) return BlockResult::unsupported;
  if (header_.snapshots != 0 && (shrinks || header_.version < 3)) return BlockResult::unsupported;
  // What is behind the old end, now or when the disk grows once more, is neither old content nor the backing
  // image's.
  const std::uint64_t begin = cluster_end(shrinks ? size : old);
  const std::uint64_t end = cluster_end(shrinks ? old : size);
  const std::uint64_t below = shrinks || backing_ == nullptr ? 0 : cluster_end(backing_->size());
  const std::uint64_t zero_end = std::clamp(below, begin, end);
  if (zero_end != begin && header_.version < 3) return BlockResult::unsupported;

  const std::uint64_t l1_span = header_.cluster_size() * (header_.cluster_size() / 8);
  BlockResult result = tables_.grow_l1(quotient_up(size, l1_span));
  if (result == BlockResult::ok && !shrinks) result = zero_tail(engine);
  if (result == BlockResult::ok)
    result = tables_.unlink(begin, (zero_end - begin) / header_.cluster_size(), Place::zero);
  if (result == BlockResult::ok)
    result = tables_.unlink(zero_end, (end - zero_end) / header_.cluster_size(), Place::nowhere);
  if (result == BlockResult::ok) result = tables_.set_virtual_size(size);
  if (result == BlockResult::ok) size_ = size;
  return result;
}

BlockResult Qcow2Image::find_extent(std::uint64_t offset, std::uint64_t size, BlockExtent& extent) {
  Qcow2Tables::Extent here;
  if (const BlockResult result = tables_.find(offset, size, here); result != BlockResult::ok) return result;
  const std::uint64_t below = backing_ == nullptr ? 0 : backing_->size();
  if (here.place == Place::nowhere && offset < below) {
    const BlockResult result = backing_->find_extent(offset, std::min(here.size, below - offset), extent);
    ++extent.depth;
    return result;
  }
  extent = {.size = here.size};
  extent.present = here.place != Place::nowhere;
  extent.data = here.place == Place::data || here.place == Place::compressed;
  extent.zero = !extent.data;
  extent.compressed = here.place == Place::compressed;
  if (here.host != 0 && !extent.compressed) extent.host = here.host;
  return BlockResult::ok;
}

BlockResult Qcow2Image::add_compressed(std::uint64_t offset, std::span<const std::byte> content) {
  return tables_.add_compressed(offset, content);
}

BlockResult Qcow2Image::clear() {
  settle();
  BlockResult result = tables_.unlink(0, cluster_end(size_) / header_.cluster_size(), Place::nowhere);
  if (result == BlockResult::ok) result = tables_.write_out();
  return result;
}

// The rest of the cluster in which the disk ends.
BlockResult Qcow2Image::zero_tail(BlockEngine& engine) {
  const std::uint64_t end = size_;
  const std::uint64_t tail = cluster_end(end) - end;
  if (tail == 0) return BlockResult::ok;
  Qcow2Tables::Extent extent;
  if (const BlockResult result = tables_.find(end, tail, extent); result != BlockResult::ok) return result;
  if (extent.place == Place::zero ||
      (extent.place == Place::nowhere && (backing_ == nullptr || backing_->size() <= end)))
    return BlockResult::ok;
  std::vector<std::byte> zeroes(tail);
  return write_now(*this, engine, end, zeroes);
}

}  // namespace hum
