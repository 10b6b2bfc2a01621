// SPDX-License-Identifier: Apache-2.0
#include "devices/block/file_operation.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>

namespace hum {

std::span<iovec> without_front(std::span<iovec> parts, std::uint64_t bytes) {
  while (!parts.empty() && bytes >= parts.front().iov_len) {
    bytes -= parts.front().iov_len;
    parts = parts.subspan(1);
  }
  if (bytes != 0) {
    parts.front().iov_base = static_cast<std::byte*>(parts.front().iov_base) + bytes;
    parts.front().iov_len -= bytes;
  }
  return parts;
}

std::optional<BlockResult> take_result(BlockOperation& operation, ssize_t returned) {
  using Kind = BlockOperation::Kind;
  if (returned < 0) {
    if (returned == -EINTR || returned == -EAGAIN) return std::nullopt;
    // Whatever the reason is: a second try would not bring back what the first one has lost.
    if (operation.kind == Kind::flush) return BlockResult::io_error;
    return result_of(static_cast<int>(-returned));
  }
  if (operation.kind != Kind::read && operation.kind != Kind::write) return BlockResult::ok;
  const auto bytes = static_cast<std::uint64_t>(returned);
  if (bytes == operation.size) return BlockResult::ok;
  if (bytes == 0) return BlockResult::io_error;  // the file has become shorter
  operation.offset += bytes;
  operation.size -= bytes;
  operation.buffers = without_front(operation.buffers, bytes);
  return std::nullopt;
}

BlockResult result_of(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return BlockResult::no_space;
    case EOPNOTSUPP:
      return BlockResult::unsupported;
    default:
      return BlockResult::io_error;
  }
}

std::span<iovec> one_call(const BlockOperation& operation) {
  return operation.buffers.first(std::min<std::size_t>(operation.buffers.size(), IOV_MAX));
}

int fallocate_mode(const BlockOperation& operation) {
  const bool hole = operation.kind == BlockOperation::Kind::discard || operation.may_unmap;
  return (hole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
}

}  // namespace hum
