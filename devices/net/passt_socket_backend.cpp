// SPDX-License-Identifier: Apache-2.0
#include "devices/net/passt_socket_backend.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include "devices/net/user_backend.h"
#include "vmm/base/errors.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

constexpr std::chrono::milliseconds retry_delay{100};

// None, with errno: nobody answers.
Fd connection_to(const std::string& key, const std::string& path) {
  const UnixAddress address = UnixAddress::of(key, path);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) throw HostError(errno, "make a socket", "raise the limit of open files (ulimit -n)");
  if (::connect(socket.get(), address.get(), address.size()) != 0) return {};
  PasstStream::prepare(socket.get());
  return socket;
}

// Another descriptor of a socket that we were given.
Fd inherited_socket(const std::string& key, int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM)
    throw ConfigError(key, std::to_string(fd), "no open stream socket",
                      "give the descriptor of one end of a socketpair");
  Fd socket(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!socket || ::fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0)
    throw HostError(errno, "take over the socket of passt", "raise the limit of open files (ulimit -n)");
  PasstStream::prepare(socket.get());
  return socket;
}

}  // namespace

FrameEndpoint::Transfer PasstSocketEndpoint::receive(std::span<const iovec> buffers) {
  const std::lock_guard lock(mutex_);
  if (!connected_) return {State::closed};
  const Transfer transfer = stream_.receive(socket_.get(), buffers);
  if (transfer.state != State::closed) return transfer;
  connected_ = false;
  broken_();
  return transfer;
}

FrameEndpoint::Transfer PasstSocketEndpoint::send(std::span<const iovec> frame) {
  const std::lock_guard lock(mutex_);
  if (!connected_) return {State::closed};
  return stream_.send(socket_.get(), frame);
}

bool PasstSocketEndpoint::flush() {
  const std::lock_guard lock(mutex_);
  return !connected_ || stream_.flush(socket_.get());
}

void PasstSocketEndpoint::connect(Fd socket) {
  const std::lock_guard lock(mutex_);
  previous_ = std::exchange(socket_, std::move(socket));
  connected_ = true;
  stream_.forget();
}

bool PasstSocketEndpoint::disconnect() {
  const std::lock_guard lock(mutex_);
  return std::exchange(connected_, false);
}

PasstSocketBackend::PasstSocketBackend(Settings settings, const Log& log)
    : settings_(std::move(settings)),
      log_(log),
      endpoint_([this] { thread_.loop().post([this] { on_end(); }); }),
      thread_("passt") {
  Fd socket = settings_.fd ? inherited_socket(settings_.what + ".socket-fd", *settings_.fd)
                           : connection_to(settings_.what + ".socket", settings_.path);
  if (!socket)
    throw ConfigError(settings_.what + ".socket", settings_.path,
                      "no passt answers there: " + std::generic_category().message(errno),
                      "start it first: passt --socket " + settings_.path);
  thread_.call([&] { use(std::move(socket)); });
}

// A guest that takes no frames would not find out that nobody is there any more: so it is watched here, too.
void PasstSocketBackend::use(Fd socket) {
  watched_ = socket.get();
  thread_.loop().watch(watched_, EventLoop::Interest::end, [this] { on_end(); });
  endpoint_.connect(std::move(socket));
}

std::optional<std::uint16_t> PasstSocketBackend::mtu() const {
  return settings_.mtu.value_or(UserBackend::largest_mtu);
}

void PasstSocketBackend::on_end() {
  if (watched_ < 0) return;
  thread_.loop().unwatch(std::exchange(watched_, -1));
  log_.warning(settings_.what + ": the passt " +
               (settings_.fd
                    ? "has gone: the link is down"
                    : "at " + settings_.path + " has gone: the link is down until there is one again"));
  link_ = false;
  if (endpoint_.disconnect()) tell_change();  // else the frames' thread has
  if (settings_.fd) return;
  thread_.loop().watch(retry_.fd(), EventLoop::Interest::readable, [this] { try_again(); });
  retry_.set(retry_delay);
}

void PasstSocketBackend::try_again() {
  Fd socket;
  try {
    socket = connection_to(settings_.what + ".socket", settings_.path);
  } catch (const HostError&) {  // no descriptor is left: there may be one soon
  }
  if (!socket) return retry_.set(retry_delay);
  thread_.loop().unwatch(retry_.fd());
  use(std::move(socket));
  link_ = true;
  tell_change();
}

void PasstSocketBackend::tell_change() {
  const std::lock_guard lock(mutex_);
  if (changed_) changed_();
}

void PasstSocketBackend::on_link_change(std::function<void()> changed) {
  const std::lock_guard lock(mutex_);
  changed_ = std::move(changed);
}

}  // namespace hum
