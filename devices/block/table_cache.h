// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace hum {

// Tables of one size that are kept in memory as they are in a file, the most recently used ones. One thread
// at a time.
class TableCache {
 public:
  struct Table {
    std::uint64_t host = 0;  // bytes, where it is in the file
    std::vector<std::byte> bytes;
    // What differs from the file, bytes; empty where both are the same.
    std::uint64_t dirty_begin = 0;
    std::uint64_t dirty_end = 0;

    bool dirty() const { return dirty_begin != dirty_end; }
    void touch(std::uint64_t begin, std::uint64_t size);
    void clean() { dirty_begin = dirty_end = 0; }
  };

  // Room for max_bytes of tables of table_size bytes each, but for 2 at least.
  TableCache(std::uint64_t max_bytes, std::uint64_t table_size);

  // Null where it is not there. Valid until the next add.
  Table* find(std::uint64_t host);
  bool full() const { return tables_.size() >= limit_; }
  // Frees the place of a table that is as in the file; false where all differ.
  bool evict();
  // A table of zeroes. There is room.
  Table& add(std::uint64_t host);
  void remove(std::uint64_t host);

  bool dirty() const;
  // From the least to the most recently used.
  std::list<Table>& tables() { return tables_; }

 private:
  std::uint64_t table_size_;
  std::uint64_t limit_;
  std::list<Table> tables_;  // the most recently used one is the last
  std::unordered_map<std::uint64_t, std::list<Table>::iterator> by_host_;
};

}  // namespace hum
