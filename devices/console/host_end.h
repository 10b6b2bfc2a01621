// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "vmm/base/fd.h"

namespace hum {

// One direction of a port on the host: a descriptor that was handed in, of a pipe, a terminal, a socket, a
// file or a character device. Other processes may share it, so its flags stay as they are; still no call
// waits. Belongs to one thread at a time, which ignores SIGPIPE or blocks it.
class HostEnd {
 public:
  enum class State : std::uint8_t { moved, wait, closed };
  struct Transfer {
    State state;
    std::size_t bytes = 0;  // moved: at least 1
    int error = 0;          // closed: errno, or 0 at the end of the input
  };

  // Takes a descriptor of its own for the open file. Throws HostError.
  explicit HostEnd(int number);

  // To be watched after `wait`, for as long as this lives.
  int fd() const { return fd_.get(); }

  // Transfers a part of the buffers, which are not empty.
  Transfer read(std::span<const iovec> to);
  // Leaves out the first `offset` bytes of the buffers, which have more.
  Transfer write(std::span<const iovec> from, std::size_t offset);

 private:
  enum class Manner : std::uint8_t {
    direct,  // a call returns at once: a regular file, or a descriptor of our own that does not wait
    socket,  // a call can be told not to wait
    asking,  // ask for readiness first, and then write no more than surely fits
  };

  bool ready(short events) const;

  Fd fd_;
  Manner manner_ = Manner::asking;
  std::size_t surely_fits_;  // bytes, when ready: a pipe takes PIPE_BUF, a terminal has room for one
};

}  // namespace hum
