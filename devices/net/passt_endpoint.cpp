// SPDX-License-Identifier: Apache-2.0
#include "devices/net/passt_endpoint.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {

PasstEndpoint::PasstEndpoint(std::function<void()> broken) : broken_(std::move(broken)) {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
    throw HostError(errno, "make a socket for passt");
  ours_ = Fd(pair[0]);
  theirs_ = Fd(pair[1]);
  for (const int socket : pair) PasstStream::prepare(socket);
}

FrameEndpoint::Transfer PasstEndpoint::receive(std::span<const iovec> buffers) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return {State::wait};
  if (!connected_) {
    stream_.discard(ours_.get());
    return {State::wait};
  }
  const Transfer transfer = stream_.receive(ours_.get(), buffers);
  if (transfer.state != State::closed) return transfer;
  connected_ = false;
  broken_();
  return {State::wait};
}

FrameEndpoint::Transfer PasstEndpoint::send(std::span<const iovec> frame) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock || !connected_) return {State::lost, 0, ENOTCONN};
  return stream_.send(ours_.get(), frame);
}

bool PasstEndpoint::flush() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  return !lock || stream_.flush(ours_.get());
}

void PasstEndpoint::connect() {
  const std::lock_guard lock(mutex_);
  connected_ = true;
}

void PasstEndpoint::disconnect() {
  const std::lock_guard lock(mutex_);
  connected_ = false;
  for (const Fd* const each : {&ours_, &theirs_}) stream_.discard(each->get());
  stream_.forget();
}

bool PasstEndpoint::connected() {
  const std::lock_guard lock(mutex_);
  return connected_;
}

}  // namespace hum
