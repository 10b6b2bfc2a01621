// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <climits>
#include <cstring>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "devices/block/memory_image_file.h"
#include "devices/block/qcow2_check.h"
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
  bool reap() override { return false; }
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
  // Where several files are used: whose record each is, in order.
  std::vector<const FileState*>* order = nullptr;
  // After so many syncs that somebody waits for, one fails.
  unsigned good_syncs = UINT_MAX;

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
    record({false, offset, {data.begin(), data.end()}});
  }
  void record(FileRecord what) {
    records.push_back(std::move(what));
    if (order != nullptr) order->push_back(this);
  }
  BlockResult perform(const BlockOperation& operation) {
    using Kind = BlockOperation::Kind;
    if (const BlockResult result = refused(); result != BlockResult::ok) return result;
    if (operation.kind == Kind::flush) record({.sync = true, .offset = 0, .data = {}});
    if (operation.kind == Kind::read && operation.offset + operation.size > bytes.size())
      return BlockResult::io_error;
    if (operation.kind == Kind::discard || operation.kind == Kind::write_zeroes)
      put(operation.offset, std::vector<std::byte>(operation.size));
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

// Instead of the host's files, whichever they are.
class FileStateEngine final : public BlockEngine {
 public:
  explicit FileStateEngine(FileState& state) : state_(state) {}
  void start(int /*file*/, BlockOperation& operation) override { state_.waiting.push_back(&operation); }
  void submit() override {}
  int ready_fd() const override { return -1; }
  bool reap() override { return false; }
  void drain() override {}

 private:
  FileState& state_;
};

// For one who waits: what is under way on the files is finished, in any order.
class FinishingEngine final : public BlockEngine {
 public:
  explicit FinishingEngine(std::vector<FileState*> files) : files_(std::move(files)) {}
  void start(int /*file*/, BlockOperation& /*operation*/) override {}
  void submit() override {}
  int ready_fd() const override { return -1; }
  bool reap() override { return false; }
  void drain() override {
    for (bool more = true; more;) {
      more = false;
      for (FileState* const each : files_) more |= each->finish_one(random_);
    }
  }

 private:
  std::vector<FileState*> files_;
  std::mt19937 random_{1};
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
    if (state_.good_syncs-- == 0) return BlockResult::io_error;
    state_.record({.sync = true, .offset = 0, .data = {}});
    return BlockResult::ok;
  }
  void start(BlockEngine& /*engine*/, BlockOperation& operation) override {
    state_.waiting.push_back(&operation);
  }

 private:
  FileState& state_;
};

// The number of leaked clusters, or nothing where the image has errors.
inline std::optional<std::uint64_t> leaked_clusters(const std::vector<std::byte>& bytes) {
  MemoryImageFile file(bytes);
  const std::string name = "test";
  Qcow2Check check(name, name, file, read_qcow2_header(name, name, file));
  const Qcow2Findings& findings = check.run();
  return findings.errors() == 0 ? std::optional(findings.leaks()) : std::nullopt;
}

}  // namespace hum::testing
