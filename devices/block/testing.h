// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "devices/block/block_backend.h"

// For tests of images and engines.
namespace hum::testing {

class TestOperation final : public BlockOperation {
 public:
  TestOperation(Kind what, std::uint64_t at, std::uint64_t bytes, std::vector<iovec> parts = {})
      : parts_(std::move(parts)) {
    kind = what;
    offset = at;
    size = bytes;
    buffers = parts_;
  }
  void finished(BlockResult how) override { outcome = how; }

  std::optional<BlockResult> outcome;

 private:
  std::vector<iovec> parts_;
};

inline BlockResult perform(BlockBackend& image, BlockEngine& engine, TestOperation&& operation) {
  image.start(engine, operation);
  engine.drain();
  return operation.outcome.value();
}

inline BlockResult perform(int file, BlockEngine& engine, TestOperation&& operation) {
  engine.start(file, operation);
  engine.drain();
  return operation.outcome.value();
}

// Bytes that tell their place, in parts of the given size.
struct Pattern {
  Pattern(std::size_t count, std::size_t part, bool filled) : bytes(count * part) {
    if (filled)
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 256);
    for (std::size_t i = 0; i < count; ++i) parts.push_back({bytes.data() + i * part, part});
  }

  TestOperation operation(BlockOperation::Kind kind, std::uint64_t offset) {
    return {kind, offset, bytes.size(), parts};
  }

  std::vector<std::byte> bytes;
  std::vector<iovec> parts;
};

}  // namespace hum::testing
