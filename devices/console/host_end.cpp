// SPDX-License-Identifier: Apache-2.0
#include "devices/console/host_end.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "devices/buffer_window.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::size_t most_per_call = 256 * 1024;

// A pipe or a terminal can be opened once more, so that not waiting is a property of our descriptor alone.
// The master of a pseudo-terminal cannot: that would make a new one.
bool can_reopen(int fd, const struct stat& status) {
  if (S_ISFIFO(status.st_mode)) return true;
  return S_ISCHR(status.st_mode) && status.st_rdev != makedev(5, 2) && ::isatty(fd) == 1;
}

Fd reopen(int fd) {
  const int access = ::fcntl(fd, F_GETFL) & O_ACCMODE;
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return Fd(::open(path.c_str(), access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

HostEnd::Transfer outcome(ssize_t count) {
  if (count > 0) return {HostEnd::State::moved, static_cast<std::size_t>(count)};
  if (count == 0) return {HostEnd::State::closed};
  if (errno == EAGAIN || errno == EINTR) return {HostEnd::State::wait};
  return {HostEnd::State::closed, 0, errno};
}

}  // namespace

HostEnd::HostEnd(int number)
    : fd_(Fd::duplicate(number)), surely_fits_(::isatty(number) == 1 ? 1 : PIPE_BUF) {
  struct stat status;
  if (::fstat(fd_.get(), &status) != 0)
    throw HostError(errno, "look at descriptor " + std::to_string(number));
  if (S_ISREG(status.st_mode)) manner_ = Manner::direct;
  if (S_ISSOCK(status.st_mode)) manner_ = Manner::socket;
  if (!can_reopen(fd_.get(), status)) return;
  // Refused without /proc, or to another user than the one who opened it.
  if (Fd own = reopen(fd_.get())) {
    fd_ = std::move(own);
    manner_ = Manner::direct;
  }
}

HostEnd::Transfer HostEnd::read(std::span<const iovec> to) {
  BufferWindow window(to, 0, most_per_call);
  if (manner_ == Manner::socket) {
    msghdr message = window.message();
    return outcome(::recvmsg(fd_.get(), &message, MSG_DONTWAIT));
  }
  if (manner_ == Manner::asking && !ready(POLLIN)) return {State::wait};
  return outcome(::readv(fd_.get(), window.data(), window.count()));
}

HostEnd::Transfer HostEnd::write(std::span<const iovec> from, std::size_t offset) {
  BufferWindow window(from, offset, manner_ == Manner::asking ? surely_fits_ : most_per_call);
  if (manner_ == Manner::socket) {
    const msghdr message = window.message();
    return outcome(::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL));
  }
  if (manner_ == Manner::asking && !ready(POLLOUT)) return {State::wait};
  return outcome(::writev(fd_.get(), window.data(), window.count()));
}

bool HostEnd::ready(short events) const {
  pollfd entry{.fd = fd_.get(), .events = events, .revents = 0};
  return ::poll(&entry, 1, 0) == 1;
}

}  // namespace hum
