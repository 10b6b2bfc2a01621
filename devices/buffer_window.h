// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

namespace hum {

// The part of some buffers that one system call transfers: at most `most` bytes from `offset` on, and as many
// buffers as have room here.
class BufferWindow {
 public:
  BufferWindow(std::span<const iovec> buffers, std::size_t offset, std::size_t most) {
    for (const iovec& buffer : buffers) {
      if (count_ == parts_.size() || most == 0) break;
      if (offset >= buffer.iov_len) {
        offset -= buffer.iov_len;
        continue;
      }
      const std::size_t here = std::min(buffer.iov_len - offset, most);
      parts_[count_++] = {static_cast<std::byte*>(buffer.iov_base) + offset, here};
      most -= here;
      offset = 0;
    }
  }

  iovec* data() { return parts_.data(); }
  int count() const { return static_cast<int>(count_); }
  msghdr message() {
    msghdr header = {};
    header.msg_iov = parts_.data();
    header.msg_iovlen = count_;
    return header;
  }

 private:
  std::array<iovec, 64> parts_;
  std::size_t count_ = 0;
};

}  // namespace hum
