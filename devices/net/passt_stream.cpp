// SPDX-License-Identifier: Apache-2.0
#include "devices/net/passt_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "devices/net/net_wire.h"
#include "vmm/base/big_endian.h"
#include "vmm/base/endian.h"
#include "vmm/memory/guest_memory.h"

namespace hum {
namespace {

using State = FrameEndpoint::State;

constexpr std::size_t length_bytes = 4;
constexpr std::size_t most_received = 256 << 10;  // several of the largest frames

// The first bytes of a frame, up to the addresses of IPv6.
constexpr std::size_t start_bytes = net_wire::ethernet_header_bytes + 40;
constexpr std::size_t ethertype_offset = 12;
constexpr std::size_t ipv4_destination = net_wire::ethernet_header_bytes + 16;
constexpr std::size_t ipv6_destination = net_wire::ethernet_header_bytes + 24;

bool is_ipv4_loopback(std::span<const std::byte> address) {
  return address[0] == std::byte{127} || address[0] == std::byte{0};  // a host takes 0.0.0.0 for itself
}

bool is_ipv6_loopback(std::span<const std::byte> address) {
  const auto zeroes = [&](std::size_t count) {
    return std::all_of(address.begin(), address.begin() + static_cast<std::ptrdiff_t>(count),
                       [](std::byte each) { return each == std::byte{0}; });
  };
  // ::, ::1, and IPv4 in the clothes of IPv6, which nobody sends over a wire.
  return (zeroes(15) && address[15] <= std::byte{1}) ||
         (zeroes(10) && address[10] == std::byte{0xff} && address[11] == std::byte{0xff});
}

// start: the first bytes of the frame, up to start_bytes.
bool goes_to_loopback(std::span<const std::byte> start) {
  if (start.size() < ethertype_offset + 2) return false;
  const auto type = std::pair(start[ethertype_offset], start[ethertype_offset + 1]);
  if (type == std::pair(std::byte{0x08}, std::byte{0x00}))
    return start.size() >= ipv4_destination + 4 && is_ipv4_loopback(start.subspan(ipv4_destination, 4));
  if (type == std::pair(std::byte{0x86}, std::byte{0xdd}))
    return start.size() >= ipv6_destination + 16 && is_ipv6_loopback(start.subspan(ipv6_destination, 16));
  return false;
}

std::size_t size_of(std::span<const iovec> parts) {
  std::size_t bytes = 0;
  for (const iovec& part : parts) bytes += part.iov_len;
  return bytes;
}

}  // namespace

PasstStream::PasstStream() : received_(most_received) {
  kept_.reserve(length_bytes + net_wire::most_frame_bytes);
}

void PasstStream::prepare(int socket) {
  constexpr int socket_bytes = 1 << 20;  // asked for; the host may give less
  ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &socket_bytes, sizeof socket_bytes);
}

void PasstStream::forget() {
  begin_ = end_ = 0;
  kept_.clear();
  kept_begin_ = 0;
}

void PasstStream::discard(int socket) {
  while (::recv(socket, received_.data(), received_.size(), MSG_DONTWAIT) > 0) {
  }
}

FrameEndpoint::Transfer PasstStream::receive(int socket, std::span<const iovec> buffers) {
  do {
    const std::size_t held = end_ - begin_;
    if (held < length_bytes) continue;
    const std::size_t length = load_be(std::span(received_).subspan(begin_, length_bytes));
    if (length < net_wire::ethernet_header_bytes || length > net_wire::most_frame_bytes)
      return {State::closed};
    if (held - length_bytes < length) continue;
    const std::span frame(received_.data() + begin_ + length_bytes, length);
    begin_ += length_bytes + length;
    const net_wire::Header header;
    copy_to(buffers, 0, bytes_of(header));
    copy_to(buffers, sizeof header, frame);
    return {State::moved, sizeof header + frame.size()};
  } while (fill(socket));
  return {ended_ ? State::closed : State::wait};
}

// Reads as much as there is and as there is room for; false: nothing.
bool PasstStream::fill(int socket) {
  std::memmove(received_.data(), received_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  const ssize_t count = ::recv(socket, received_.data() + end_, received_.size() - end_, MSG_DONTWAIT);
  if (count > 0) end_ += static_cast<std::size_t>(count);
  ended_ = count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR);
  return count > 0;
}

FrameEndpoint::Transfer PasstStream::send(int socket, std::span<const iovec> frame) {
  if (!flush(socket)) return {State::wait};
  const std::size_t whole = size_of(frame);
  if (whole < sizeof(net_wire::Header) + net_wire::ethernet_header_bytes ||
      whole > sizeof(net_wire::Header) + net_wire::most_frame_bytes)
    return {State::lost, 0, EMSGSIZE};

  // The length and a copy of the first bytes, which the guest cannot change any more, then the rest.
  const std::size_t bytes = whole - sizeof(net_wire::Header);
  std::array<std::byte, length_bytes + start_bytes> front;
  store_be(std::span(front).first(length_bytes), bytes);
  const std::span start(front.data() + length_bytes, std::min(bytes, start_bytes));
  parts_.assign(1, {front.data(), length_bytes + start.size()});
  std::size_t skipped = sizeof(net_wire::Header);
  std::size_t copied = 0;
  for (iovec part : frame) {
    const std::size_t behind = std::min(skipped, part.iov_len);
    skipped -= behind;
    auto* from = static_cast<std::byte*>(part.iov_base) + behind;
    std::size_t left = part.iov_len - behind;
    const std::size_t first = std::min(left, start.size() - copied);
    std::memcpy(start.data() + copied, from, first);
    copied += first;
    left -= first;
    if (left > 0) parts_.push_back({from + first, left});
  }
  if (goes_to_loopback(start)) return {State::lost, 0, EACCES};

  msghdr message{};
  message.msg_iov = parts_.data();
  message.msg_iovlen = parts_.size();
  const ssize_t sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return {errno == EAGAIN || errno == EINTR ? State::wait : State::lost, 0, errno};
  if (static_cast<std::size_t>(sent) < length_bytes + bytes) keep(static_cast<std::size_t>(sent));
  return {State::moved, whole};
}

// What of parts_ is behind the first `sent` bytes.
void PasstStream::keep(std::size_t sent) {
  for (const iovec& part : parts_) {
    const std::size_t gone = std::min(sent, part.iov_len);
    sent -= gone;
    const std::span bytes(static_cast<const std::byte*>(part.iov_base), part.iov_len);
    const auto rest = bytes.subspan(gone);
    kept_.insert(kept_.end(), rest.begin(), rest.end());
  }
}

bool PasstStream::flush(int socket) {
  while (kept_begin_ < kept_.size()) {
    const ssize_t sent =
        ::send(socket, kept_.data() + kept_begin_, kept_.size() - kept_begin_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0) return false;
    kept_begin_ += static_cast<std::size_t>(sent);
  }
  kept_.clear();
  kept_begin_ = 0;
  return true;
}

}  // namespace hum
