// SPDX-License-Identifier: Apache-2.0
#include "devices/net/tap_endpoint.h"

#include <algorithm>
#include <cerrno>

namespace hum {
namespace {

FrameEndpoint::Transfer outcome(ssize_t count) {
  using State = FrameEndpoint::State;
  if (count >= 0) return {State::moved, static_cast<std::size_t>(count)};
  switch (errno) {
    case EAGAIN:
    case EINTR:
      return {State::wait};
    case EBADFD:  // no interface any more
    case ENODEV:
      return {State::closed, 0, errno};
    default:  // a header it refuses (EINVAL), the interface is down (EIO), no memory: of this frame only
      return {State::lost, 0, errno};
  }
}

}  // namespace

// The kernel does not tell that it has cut a frame off: one byte more than there is room for does.
FrameEndpoint::Transfer TapEndpoint::receive(std::span<const iovec> buffers) {
  const std::size_t count = std::min(buffers.size(), most_parts - 1);
  std::copy_n(buffers.begin(), count, parts_.begin());
  parts_[count] = {&overflow_, sizeof overflow_};
  return outcome(::readv(fd_, parts_.data(), static_cast<int>(count + 1)));
}

FrameEndpoint::Transfer TapEndpoint::send(std::span<const iovec> frame) {
  return outcome(::writev(fd_, frame.data(), static_cast<int>(frame.size())));
}

}  // namespace hum
