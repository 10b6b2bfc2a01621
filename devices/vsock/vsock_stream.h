// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "vmm/base/fd.h"

namespace hum {

// The host's end of a connection: a socket, and those bytes of the guest that the socket did not take at
// once. No call waits. What the socket is ready for is known from edge-triggered events and from calls that
// would have waited. Belongs to one thread.
class VsockStream {
 public:
  // room: the most bytes that are held for the socket; the memory is taken when the first are.
  VsockStream(Fd socket, std::size_t room) : socket_(std::move(socket)), room_(room) {}

  int fd() const { return socket_.get(); }
  // Events of epoll (EPOLLIN, ...) for the socket.
  void ready(std::uint32_t events);

  // Whether the host may have bytes.
  bool readable() const { return may_read_ && !input_ended_; }
  // Reads into the buffers from offset on; 0: none has come yet, or the end.
  std::size_t read(std::span<const iovec> to, std::size_t offset, std::size_t most);

  // Takes so many bytes of the buffers from offset on, which with those that are held are at most the room.
  // Returns how many bytes the host has taken, also of those that were held; all of them when it takes none
  // any more.
  std::size_t write(std::span<const iovec> from, std::size_t offset, std::size_t bytes);
  // The same with what is held.
  std::size_t flush();
  bool drained() const { return held_ == 0; }

  // The guest will not receive, or not send any more.
  void end_input();
  void end_output();
  // The host will not send any more and all it sent was read; or it will not receive any more.
  bool input_ended() const { return input_ended_; }
  bool output_ended() const { return output_ended_; }

  // Both ends are over, and what is held is lost.
  void close();

 private:
  std::size_t send(std::span<const iovec> from, std::size_t offset, std::size_t bytes);
  void hold(std::span<const iovec> from, std::size_t offset, std::size_t bytes);
  std::size_t discard();

  Fd socket_;
  std::size_t room_;
  bool may_read_ = true;
  bool may_write_ = true;
  bool hung_up_ = false;  // nobody is at the other end, though there may be bytes to read
  bool input_ended_ = false;
  bool output_ended_ = false;
  bool finished_ = false;                    // the guest's end was passed on
  std::unique_ptr<std::byte[]> held_bytes_;  // a ring of room_
  std::size_t held_from_ = 0;
  std::size_t held_ = 0;
};

}  // namespace hum
