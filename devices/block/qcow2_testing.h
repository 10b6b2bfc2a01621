// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include "devices/block/big_endian.h"
#include "devices/block/memory_image_file.h"
#include "devices/block/qcow2_image.h"

// For tests of qcow2 images: a file that finishes operations late and in any order, and remembers what was
// written.
namespace hum::testing {

// Never asked for anything: the files of these tests carry out their operations themselves.
class NoEngine final : public BlockEngine {
 public:
  void start(int /*file*/, BlockOperation& /*operation*/) override {}
  void submit() override {}
  int ready_fd() const override { return -1; }
  void reap() override {}
  void drain() override {}
};

struct FileRecord {
  bool sync = false;
  std::uint64_t offset = 0;
  std::vector<std::byte> data;
};

// The content is shared with the test, which outlives the image.
struct FileState {
  std::vector<std::byte> bytes;
  std::vector<FileRecord> records;
  std::vector<BlockOperation*> waiting;
  // Called before each access; what it returns is the access's result.
  std::function<BlockResult()> fault;

  bool finish_one(std::mt19937& random) {
    if (waiting.empty()) return false;
    const std::size_t which = random() % waiting.size();
    BlockOperation& operation = *waiting[which];
    waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(which));
    operation.finished(perform(operation));
    return true;
  }
  BlockResult refused() { return fault ? fault() : BlockResult::ok; }
  void put(std::uint64_t offset, std::span<const std::byte> data) {
    if (offset + data.size() > bytes.size()) bytes.resize(offset + data.size());
    std::copy(data.begin(), data.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    records.push_back({false, offset, {data.begin(), data.end()}});
  }
  BlockResult perform(const BlockOperation& operation) {
    using Kind = BlockOperation::Kind;
    if (const BlockResult result = refused(); result != BlockResult::ok) return result;
    if (operation.kind == Kind::flush) records.push_back({.sync = true, .offset = 0, .data = {}});
    if (operation.kind == Kind::read && operation.offset + operation.size > bytes.size())
      return BlockResult::io_error;
    std::uint64_t offset = operation.offset;
    for (const iovec& part : operation.buffers) {
      const std::span<std::byte> data(static_cast<std::byte*>(part.iov_base), part.iov_len);
      if (operation.kind == Kind::read) std::memcpy(data.data(), bytes.data() + offset, data.size());
      if (operation.kind == Kind::write) put(offset, data);
      offset += data.size();
    }
    return BlockResult::ok;
  }
};

class LateFile final : public ImageFile {
 public:
  explicit LateFile(FileState& state) : state_(state) {}

  std::uint64_t size() const override { return state_.bytes.size(); }
  BlockResult read(std::uint64_t offset, std::span<std::byte> data) override {
    if (const BlockResult result = state_.refused(); result != BlockResult::ok) return result;
    std::fill(data.begin(), data.end(), std::byte{0});
    if (offset < state_.bytes.size())
      std::copy_n(state_.bytes.begin() + static_cast<std::ptrdiff_t>(offset),
                  std::min<std::size_t>(data.size(), state_.bytes.size() - offset), data.begin());
    return BlockResult::ok;
  }
  BlockResult write(std::uint64_t offset, std::span<const std::byte> data) override {
    if (const BlockResult result = state_.refused(); result != BlockResult::ok) return result;
    state_.put(offset, data);
    return BlockResult::ok;
  }
  BlockResult sync() override {
    if (const BlockResult result = state_.refused(); result != BlockResult::ok) return result;
    state_.records.push_back({.sync = true, .offset = 0, .data = {}});
    return BlockResult::ok;
  }
  void start(BlockEngine& /*engine*/, BlockOperation& operation) override {
    state_.waiting.push_back(&operation);
  }

 private:
  FileState& state_;
};

// What a check of the image looks for: each cluster is counted as often as it is used at least. The number of
// clusters that are counted too often, or nothing where one is counted too seldom or a table leads outside.
// 16-bit counts, no snapshots, no compressed clusters.
inline std::optional<std::uint64_t> leaked_clusters(const std::vector<std::byte>& bytes) {
  constexpr std::uint64_t offset_bits = 0x00ff'ffff'ffff'fe00;
  const auto number = [&](std::uint64_t at, std::size_t size) -> std::uint64_t {
    std::vector<std::byte> here(size);
    if (at < bytes.size())
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                  std::min<std::size_t>(size, bytes.size() - at), here.begin());
    return load_be(here);
  };
  const std::uint64_t cluster = std::uint64_t{1} << number(20, 4);
  std::map<std::uint64_t, std::uint64_t> uses;
  const auto use = [&](std::uint64_t at, std::uint64_t size) {
    for (std::uint64_t i = at / cluster; i * cluster < at + size; ++i) ++uses[i];
  };
  use(0, 1);
  const std::uint64_t l1 = number(40, 8);
  const std::uint64_t l1_entries = number(36, 4);
  use(l1, l1_entries * 8);
  for (std::uint64_t i = 0; i < l1_entries; ++i) {
    const std::uint64_t l2 = number(l1 + i * 8, 8) & offset_bits;
    if (l2 == 0) continue;
    if (l2 % cluster != 0 || l2 >= bytes.size()) return std::nullopt;
    use(l2, cluster);
    for (std::uint64_t k = 0; k < cluster / 8; ++k) {
      const std::uint64_t data = number(l2 + k * 8, 8) & offset_bits;
      if (data == 0) continue;
      if (data % cluster != 0 || data >= bytes.size()) return std::nullopt;
      use(data, cluster);
    }
  }
  const std::uint64_t table = number(48, 8);
  const std::uint64_t table_size = number(56, 4) * cluster;
  use(table, table_size);
  const auto counts_in = cluster / 2;
  std::map<std::uint64_t, std::uint64_t> counts;
  for (std::uint64_t i = 0; i < table_size / 8; ++i) {
    const std::uint64_t block = number(table + i * 8, 8);
    if (block == 0) continue;
    if (block % cluster != 0 || block >= bytes.size()) return std::nullopt;
    use(block, cluster);
    for (std::uint64_t k = 0; k < counts_in; ++k)
      if (const std::uint64_t count = number(block + k * 2, 2); count != 0) counts[i * counts_in + k] = count;
  }
  std::uint64_t leaked = 0;
  for (const auto& [index, count] : uses)
    if (count > 1 || counts[index] < count) return std::nullopt;
  for (const auto& [index, count] : counts)
    if (count > uses[index]) ++leaked;
  return leaked;
}

}  // namespace hum::testing
