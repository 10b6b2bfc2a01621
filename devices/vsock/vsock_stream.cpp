// SPDX-License-Identifier: Apache-2.0
#include "devices/vsock/vsock_stream.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <utility>

#include "devices/buffer_window.h"
#include "vmm/memory/guest_memory.h"

namespace hum {
namespace {

bool hangs_up(int fd) {
  pollfd entry{.fd = fd, .events = 0, .revents = 0};
  return ::poll(&entry, 1, 0) == 1;
}

}  // namespace

void VsockStream::ready(std::uint32_t events) {
  const bool hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;
  hung_up_ |= hung_up;
  may_read_ |= hung_up || (events & (EPOLLIN | EPOLLRDHUP)) != 0;
  may_write_ |= hung_up || (events & EPOLLOUT) != 0;
  output_ended_ |= hung_up_ && input_ended_;
}

std::size_t VsockStream::read(std::span<const iovec> to, std::size_t offset, std::size_t most) {
  BufferWindow window(to, offset, most);
  msghdr message = window.message();
  while (readable()) {
    const ssize_t count = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
    if (count > 0) return static_cast<std::size_t>(count);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) {
      may_read_ = false;
      break;
    }
    // The event of a client that is gone altogether may still be on its way.
    hung_up_ |= count < 0 || hangs_up(socket_.get());
    input_ended_ = true;
    output_ended_ |= hung_up_;
  }
  return 0;
}

std::size_t VsockStream::write(std::span<const iovec> from, std::size_t offset, std::size_t bytes) {
  const std::size_t taken = flush();
  const std::size_t sent = held_ == 0 ? send(from, offset, bytes) : 0;
  if (output_ended_) return taken + bytes;
  hold(from, offset + sent, bytes - sent);
  return taken + sent;
}

std::size_t VsockStream::flush() {
  std::size_t taken = 0;
  while (held_ != 0) {
    if (output_ended_) return taken + discard();
    const iovec first{held_bytes_.get() + held_from_, std::min(held_, room_ - held_from_)};
    const std::size_t sent = send({&first, 1}, 0, first.iov_len);
    held_ -= sent;
    held_from_ = held_ == 0 ? 0 : (held_from_ + sent) % room_;
    taken += sent;
    if (sent == 0 && !output_ended_) break;
  }
  return taken;
}

// Bytes that the socket has taken.
std::size_t VsockStream::send(std::span<const iovec> from, std::size_t offset, std::size_t bytes) {
  std::size_t done = 0;
  while (done < bytes && may_write_ && !output_ended_) {
    BufferWindow window(from, offset + done, bytes - done);
    const msghdr message = window.message();
    const ssize_t count = ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0) {
      done += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN) {
      may_write_ = false;
    } else if (errno != EINTR) {
      output_ended_ = true;
    }
  }
  return done;
}

void VsockStream::hold(std::span<const iovec> from, std::size_t offset, std::size_t bytes) {
  if (bytes == 0) return;
  assert(held_ + bytes <= room_);
  if (!held_bytes_) held_bytes_ = std::make_unique_for_overwrite<std::byte[]>(room_);
  const std::size_t at = (held_from_ + held_) % room_;
  const std::size_t first = std::min(bytes, room_ - at);
  copy_from(from, offset, {held_bytes_.get() + at, first});
  copy_from(from, offset + first, {held_bytes_.get(), bytes - first});
  held_ += bytes;
}

std::size_t VsockStream::discard() {
  held_from_ = 0;
  return std::exchange(held_, 0);
}

void VsockStream::end_input() {
  if (std::exchange(input_ended_, true)) return;
  ::shutdown(socket_.get(), SHUT_RD);
  output_ended_ |= hung_up_;
}

void VsockStream::end_output() {
  if (std::exchange(finished_, true)) return;
  ::shutdown(socket_.get(), SHUT_WR);
}

void VsockStream::close() {
  socket_.reset();
  input_ended_ = output_ended_ = finished_ = true;
  discard();
}

}  // namespace hum
