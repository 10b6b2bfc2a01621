// SPDX-License-Identifier: Apache-2.0
#include "vmm/bus/address_decoder.h"

#include <algorithm>
#include <cassert>
#include <mutex>
#include <utility>

namespace hum {

AddressDecoder::Mapping::Mapping(Mapping&& other) noexcept
    : decoder_(std::exchange(other.decoder_, nullptr)), entry_(other.entry_) {}

AddressDecoder::Mapping& AddressDecoder::Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    unmap();
    decoder_ = std::exchange(other.decoder_, nullptr);
    entry_ = other.entry_;
  }
  return *this;
}

void AddressDecoder::Mapping::unmap() {
  if (decoder_ == nullptr) return;
  const std::unique_lock lock(decoder_->mutex_);
  decoder_->entries_.erase(entry_);
  decoder_ = nullptr;
}

AddressDecoder::Mapping AddressDecoder::map(std::string_view name, std::uint64_t base, std::uint64_t size,
                                            RegisterWindow& window) {
  assert(size != 0 && base <= UINT64_MAX - (size - 1));
  const std::unique_lock lock(mutex_);
  auto tally =
      std::find_if(tallies_.begin(), tallies_.end(), [&](const Tally& each) { return each.name == name; });
  if (tally == tallies_.end()) {
    tally = tallies_.emplace(tallies_.end());
    tally->name = name;
  }
  Mapping mapping;
  mapping.decoder_ = this;
  mapping.entry_ = entries_.insert(entries_.end(), Entry{base, size, &window, &*tally});
  return mapping;
}

AddressDecoder::Hit AddressDecoder::find(std::uint64_t address) const {
  const std::shared_lock lock(mutex_);
  for (const Entry& entry : entries_)
    if (address - entry.base < entry.size) return {entry.window, address - entry.base, entry.tally};
  return {};
}

bool AddressDecoder::read(std::uint64_t address, std::span<std::byte> data) {
  const Hit hit = find(address);
  if (hit.window == nullptr) return false;
  hit.tally->reads.fetch_add(1, std::memory_order_relaxed);
  hit.window->read(hit.offset, data);
  return true;
}

bool AddressDecoder::write(std::uint64_t address, std::span<const std::byte> data) {
  const Hit hit = find(address);
  if (hit.window == nullptr) return false;
  hit.tally->writes.fetch_add(1, std::memory_order_relaxed);
  hit.window->write(hit.offset, data);
  return true;
}

std::vector<AddressDecoder::Count> AddressDecoder::counts() const {
  const std::shared_lock lock(mutex_);
  std::vector<Count> all;
  for (const Tally& tally : tallies_) all.push_back({tally.name, tally.reads.load(), tally.writes.load()});
  return all;
}

}  // namespace hum
