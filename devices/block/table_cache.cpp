// SPDX-License-Identifier: Apache-2.0
#include "devices/block/table_cache.h"

#include <algorithm>
#include <iterator>

namespace hum {

void TableCache::Table::touch(std::uint64_t begin, std::uint64_t size) {
  const bool was_dirty = dirty();
  dirty_begin = was_dirty ? std::min(dirty_begin, begin) : begin;
  dirty_end = was_dirty ? std::max(dirty_end, begin + size) : begin + size;
}

TableCache::TableCache(std::uint64_t max_bytes, std::uint64_t table_size)
    : table_size_(table_size), limit_(std::max<std::uint64_t>(2, max_bytes / table_size)) {}

TableCache::Table* TableCache::find(std::uint64_t host) {
  if (!tables_.empty() && tables_.back().host == host) return &tables_.back();
  const auto found = by_host_.find(host);
  if (found == by_host_.end()) return nullptr;
  tables_.splice(tables_.end(), tables_, found->second);
  return &tables_.back();
}

bool TableCache::evict() {
  const auto victim =
      std::find_if(tables_.begin(), tables_.end(), [](const Table& each) { return !each.dirty(); });
  if (victim == tables_.end()) return false;
  by_host_.erase(victim->host);
  tables_.erase(victim);
  return true;
}

TableCache::Table& TableCache::add(std::uint64_t host) {
  Table& table = tables_.emplace_back();
  table.host = host;
  table.bytes.resize(table_size_);
  by_host_[host] = std::prev(tables_.end());
  return table;
}

void TableCache::remove(std::uint64_t host) {
  const auto found = by_host_.find(host);
  if (found == by_host_.end()) return;
  tables_.erase(found->second);
  by_host_.erase(found);
}

bool TableCache::dirty() const {
  return std::any_of(tables_.begin(), tables_.end(), [](const Table& each) { return each.dirty(); });
}

}  // namespace hum
