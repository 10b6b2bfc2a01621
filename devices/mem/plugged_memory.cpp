// SPDX-License-Identifier: Apache-2.0
#include "devices/mem/plugged_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {
namespace {

// How much more than is requested may be chosen from, at least: two of Linux's usual pieces.
constexpr std::uint64_t usable_extra = 256 << 20;

}  // namespace

PluggedMemory::PluggedMemory(const MemoryRegion& region, const Layout& layout, MemorySlots& slots,
                             const Log& log)
    : region_(region),
      layout_(layout),
      memory_slots_(slots),
      log_(log),
      slots_(layout.total / layout.slot_size) {
  sizes_.usable = usable_for(0);
}

PluggedMemory::~PluggedMemory() {
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) unmap(slot);
}

// 5.15.6.1, in the order of its device requirements.
PluggedMemory::Answer PluggedMemory::plug(GuestAddress address, std::uint64_t blocks) {
  const std::lock_guard lock(mutex_);
  const auto run = run_of(address, blocks);
  if (!run || region_.blocks->count_in(run->first, run->count) != 0) return Answer::wrong;
  const std::uint64_t size = run->count * layout_.block_size;
  if (sizes_.plugged + size > sizes_.requested) return Answer::refused;
  if (!map_slots(*run)) return Answer::busy;
  region_.blocks->set(run->first, run->count, true);
  sizes_.plugged += size;
  return Answer::done;
}

// 5.15.6.2.
PluggedMemory::Answer PluggedMemory::unplug(GuestAddress address, std::uint64_t blocks) {
  const std::lock_guard lock(mutex_);
  const auto run = run_of(address, blocks);
  if (!run || region_.blocks->count_in(run->first, run->count) != run->count) return Answer::wrong;
  region_.blocks->set(run->first, run->count, false);
  release(*run);
  sizes_.plugged -= run->count * layout_.block_size;
  return Answer::done;
}

// 5.15.6.3.
void PluggedMemory::unplug_all() {
  const std::lock_guard lock(mutex_);
  region_.blocks->set(0, region_.blocks->count(), false);
  release({0, region_.blocks->count()});
  sizes_.plugged = 0;
  sizes_.usable = usable_for(sizes_.requested);
}

std::optional<PluggedMemory::State> PluggedMemory::state(GuestAddress address, std::uint64_t blocks) const {
  const std::lock_guard lock(mutex_);
  const auto run = run_of(address, blocks);
  if (!run) return {};
  const std::uint64_t plugged = region_.blocks->count_in(run->first, run->count);
  return plugged == run->count ? State::plugged : plugged == 0 ? State::unplugged : State::mixed;
}

void PluggedMemory::request(std::uint64_t size) {
  const std::lock_guard lock(mutex_);
  sizes_.requested = size;
  sizes_.usable = std::max(sizes_.usable, usable_for(size));
}

PluggedMemory::Sizes PluggedMemory::sizes() const {
  const std::lock_guard lock(mutex_);
  return sizes_;
}

// Within the usable region.
std::optional<PluggedMemory::Run> PluggedMemory::run_of(GuestAddress address, std::uint64_t blocks) const {
  const std::uint64_t offset = address.value - region_.range.begin.value;
  if (address < region_.range.begin || offset >= sizes_.usable || offset % layout_.block_size != 0 ||
      blocks == 0 || blocks > (sizes_.usable - offset) / layout_.block_size)
    return {};
  return Run{offset / layout_.block_size, blocks};
}

std::uint64_t PluggedMemory::usable_for(std::uint64_t requested) const {
  const std::uint64_t extra = std::max(usable_extra, 2 * layout_.block_size);
  return requested + std::min(extra, layout_.total - requested);
}

PluggedMemory::Run PluggedMemory::blocks_of(std::size_t slot) const {
  const std::uint64_t each = layout_.slot_size / layout_.block_size;
  return {slot * each, each};
}

void PluggedMemory::map(std::size_t slot) {
  if (slots_[slot]) return;
  const std::uint64_t offset = slot * layout_.slot_size;
  slots_[slot] =
      memory_slots_.add({region_.range.begin + offset, layout_.slot_size}, region_.host + offset, false);
}

void PluggedMemory::unmap(std::size_t slot) {
  if (const auto number = std::exchange(slots_[slot], {})) memory_slots_.remove(*number);
}

// All that the blocks are in, or none more than before.
bool PluggedMemory::map_slots(Run run) {
  const std::size_t first = run.first * layout_.block_size / layout_.slot_size;
  const std::size_t last = (run.first + run.count - 1) * layout_.block_size / layout_.slot_size;
  std::vector<std::size_t> mapped;
  try {
    for (std::size_t slot = first; slot <= last; ++slot) {
      if (slots_[slot]) continue;
      map(slot);
      mapped.push_back(slot);
    }
  } catch (const HostError& error) {
    for (const std::size_t slot : mapped) unmap(slot);
    if (!std::exchange(failure_told_, true)) log_.warning(std::string("mem: ") + error.what());
    return false;
  }
  return true;
}

// Blocks that are not plugged any more. A slot goes as a whole with its last block, and with it whatever its
// other blocks have taken while the guest could reach them; it goes first, so that nothing is taken again.
void PluggedMemory::release(Run run) {
  const std::uint64_t end = run.first + run.count;
  while (run.first < end) {
    const std::size_t slot = run.first * layout_.block_size / layout_.slot_size;
    const Run whole = blocks_of(slot);
    const std::uint64_t next = std::min(end, whole.first + whole.count);
    if (slots_[slot] && region_.blocks->count_in(whole.first, whole.count) == 0) {
      unmap(slot);
      discard(whole);
    } else if (slots_[slot]) {
      discard({run.first, next - run.first});
    }
    run.first = next;
  }
}

void PluggedMemory::discard(Run run) {
  if (region_.discard(run.first * layout_.block_size, run.count * layout_.block_size) != 0) return;
  if (!std::exchange(failure_told_, true))
    log_.warning(std::string("mem: the host does not take memory back: ") + std::strerror(errno));
}

void PluggedMemory::fields(StateVisitor& visitor) {
  const std::lock_guard lock(mutex_);
  visitor.same("address", region_.range.begin.value);
  visitor.same("total", layout_.total);
  visitor.same("slot-size", layout_.slot_size);
  visitor.same("block-size", layout_.block_size);
  const std::uint64_t requested = visitor.number("requested", sizes_.requested, layout_.total);
  const std::uint64_t usable = visitor.number("usable", sizes_.usable, layout_.total);
  for (const auto& [name, size] : {std::pair("requested", requested), {"usable", usable}})
    visitor.require(size % layout_.block_size == 0, name, "is no whole number of blocks");
  visitor.require(usable >= requested, "usable", "is less than is requested");
  saved_.assign(region_.blocks->count(), 0);
  for (std::uint64_t block = 0; block < saved_.size(); ++block) saved_[block] = region_.blocks->has(block);
  const std::vector<std::uint8_t> plugged = visitor.list("plugged", saved_, saved_.size());
  visitor.require(plugged.size() == saved_.size(), "plugged", "is for another number of blocks");
  for (std::uint64_t block = 0; block < plugged.size(); ++block)
    visitor.require(plugged[block] == 0 || (plugged[block] == 1 && block < usable / layout_.block_size),
                    "plugged", "has a block that cannot be plugged");
  visitor.afterwards([this, plugged] { take(plugged); });
}

void PluggedMemory::take(const std::vector<std::uint8_t>& plugged) {
  const std::lock_guard lock(mutex_);
  for (std::uint64_t block = 0; block < plugged.size(); ++block)
    region_.blocks->set(block, 1, plugged[block] != 0);
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    const Run run = blocks_of(slot);
    if (region_.blocks->count_in(run.first, run.count) != 0)
      map(slot);
    else
      unmap(slot);
  }
  sizes_.plugged = region_.blocks->count_in(0, region_.blocks->count()) * layout_.block_size;
}

}  // namespace hum
