// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/ring_watch.h"

#include <algorithm>

#include "vmm/base/endian.h"

namespace hum::virtio {
namespace {

std::uint16_t distance(std::uint16_t from, std::uint16_t to) {
  return static_cast<std::uint16_t>(to - from);
}

}  // namespace

RingWatch::RingWatch(const GuestMemory& memory, const QueueLayout& layout)
    : memory_(memory),
      layout_(layout),
      with_other_side_(layout.size),
      offered_(used_index()),
      used_(offered_) {}

std::uint16_t RingWatch::offered_index() const {
  return memory_.load_acquire<std::uint16_t>(layout_.available + 2);
}

std::uint16_t RingWatch::used_index() const {
  return memory_.load_acquire<std::uint16_t>(layout_.used + 2);
}

GuestAddress RingWatch::offer_at(std::uint16_t index) const {
  return layout_.available + 4 + 2 * std::uint64_t{index & (layout_.size - 1u)};
}

// The used index first: what was given back by then had been offered before.
void RingWatch::look() {
  const std::uint16_t used = used_index();
  const std::uint16_t offered = offered_index();
  if (used == offered) {
    std::fill(with_other_side_.begin(), with_other_side_.end(), std::int8_t{0});
    known_ = true;
  } else {
    known_ = known_ && follow(offered, used);
  }
  offered_ = offered;
  used_ = used;
}

bool RingWatch::follow(std::uint16_t offered, std::uint16_t used) {
  const std::uint16_t size = layout_.size;
  if (distance(offered_, offered) > size || distance(used_, used) > size) return false;
  for (std::uint16_t at = offered_; at != offered; ++at) {
    const std::uint16_t head = memory_.read<le16>(offer_at(at));
    if (head >= size || ++with_other_side_[head] > 2) return false;  // back and offered again, at most
  }
  for (std::uint16_t at = used_; at != used; ++at) {
    const std::uint32_t head = memory_.read<le32>(layout_.used + 4 + 8 * std::uint64_t{at & (size - 1u)});
    if (head >= size || --with_other_side_[head] < 0) return false;
  }
  // What was read may have been written anew meanwhile.
  if (distance(offered_, offered_index()) > size || distance(used_, used_index()) > size) return false;
  return std::all_of(with_other_side_.begin(), with_other_side_.end(),
                     [](std::int8_t count) { return count <= 1; });
}

bool RingWatch::put_back() {
  look();
  std::vector<std::uint16_t> heads;
  for (std::uint16_t head = 0; head < layout_.size; ++head)
    if (with_other_side_[head] == 1) heads.push_back(head);
  if (!known_ || heads.size() != distance(used_, offered_)) return false;
  std::vector<std::uint16_t> there;
  for (std::uint16_t at = used_; at != offered_; ++at) there.push_back(memory_.read<le16>(offer_at(at)));
  if (std::is_permutation(there.begin(), there.end(), heads.begin())) return true;
  std::uint16_t at = used_;
  for (const std::uint16_t head : heads) memory_.write(offer_at(at++), le16(head));
  return true;
}

}  // namespace hum::virtio
