// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace hum {

// The host's end of one pair of queues: a tap, a socket. Frames stand behind a net_wire::Header, whose
// num_buffers is nobody's business here. Belongs to one thread.
class FrameEndpoint {
 public:
  enum class State : std::uint8_t {
    moved,   // one whole frame
    wait,    // not now: nothing was moved; fd() or send_fd() tells when to try again
    lost,    // the frame could not be moved and is gone; the next one may
    closed,  // there will be no more
  };
  struct Transfer {
    State state = State::wait;
    std::size_t bytes = 0;  // with the header; more than the buffers hold: the rest was cut off (receive)
    int error = 0;          // lost, closed: the errno, 0 where there is none
  };

  virtual ~FrameEndpoint() = default;

  // Readable when there are frames to receive.
  virtual int fd() const = 0;
  // Writable when one can be sent after `wait`.
  virtual int send_fd() const { return fd(); }
  // Header and frame go into the buffers. Until it says `wait` there may be more frames of which fd() does
  // not tell.
  virtual Transfer receive(std::span<const iovec> buffers) = 0;
  // Header and frame, whole: may hand it to the host later, but keeps a copy then. The header was checked.
  // What lies with it in the first buffer is a copy that the guest cannot change any more.
  virtual Transfer send(std::span<const iovec> frame) = 0;
  // Hands out what send has kept; to be called behind the last send of a batch. False: not all of it went;
  // again once send_fd() is writable (the next send does it, too).
  virtual bool flush() { return true; }
};

}  // namespace hum
