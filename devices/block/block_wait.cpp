// SPDX-License-Identifier: Apache-2.0
#include "devices/block/block_wait.h"

#include <poll.h>

#include <iterator>
#include <optional>

namespace hum {
namespace {

using Kind = BlockOperation::Kind;

class Waited final : public BlockOperation {
 public:
  Waited(Kind what, std::uint64_t at, std::uint64_t bytes) {
    kind = what;
    offset = at;
    size = bytes;
    may_unmap = true;
  }
  void use(std::span<std::byte> data) {
    part_ = {data.data(), data.size()};
    buffers = {&part_, 1};
  }
  void finished(BlockResult how) override { outcome_ = how; }
  BlockResult run(BlockBackend& image, BlockEngine& engine) {
    image.start(engine, *this);
    if (!outcome_) engine.drain();
    return outcome_.value_or(BlockResult::io_error);
  }

 private:
  iovec part_{};
  std::optional<BlockResult> outcome_;
};

BlockResult transfer(BlockBackend& image, BlockEngine& engine, Kind kind, std::uint64_t offset,
                     std::span<std::byte> data) {
  Waited operation(kind, offset, data.size());
  operation.use(data);
  return operation.run(image, engine);
}

}  // namespace

bool BlockEngine::wait(int fd) {
  submit();
  pollfd entries[] = {{fd, POLLIN, 0}, {ready_fd(), POLLIN, 0}};
  ::poll(entries, std::size(entries), -1);
  reap();
  return entries[0].revents != 0;
}

BlockResult read_now(BlockBackend& image, BlockEngine& engine, std::uint64_t offset,
                     std::span<std::byte> data) {
  return transfer(image, engine, Kind::read, offset, data);
}

BlockResult write_now(BlockBackend& image, BlockEngine& engine, std::uint64_t offset,
                      std::span<std::byte> data) {
  return transfer(image, engine, Kind::write, offset, data);
}

BlockResult flush_now(BlockBackend& image, BlockEngine& engine) {
  return Waited(Kind::flush, 0, 0).run(image, engine);
}

BlockResult forget_now(BlockBackend& image, BlockEngine& engine, Kind kind, std::uint64_t offset,
                       std::uint64_t size) {
  return Waited(kind, offset, size).run(image, engine);
}

}  // namespace hum
