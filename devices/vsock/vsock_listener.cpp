// SPDX-License-Identifier: Apache-2.0
#include "devices/vsock/vsock_listener.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include "vmm/base/errors.h"
#include "vmm/base/unix_address.h"

namespace hum {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds rest{100};

Fd make_socket() {
  return Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// "CONNECT 1024\n"
std::optional<std::uint32_t> port_of(std::string_view line) {
  constexpr std::string_view command = "CONNECT ";
  if (!line.starts_with(command)) return {};
  line.remove_prefix(command.size());
  std::uint32_t port = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
  if (error != std::errc() || std::string_view(end, line.data() + line.size()) != "\n") return {};
  return port;
}

bool out_of_descriptors(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace

VsockListener::VsockListener(const std::string& key, const std::string& path,
                             std::chrono::milliseconds patience)
    : path_(path), epoll_(::epoll_create1(EPOLL_CLOEXEC)), listener_(make_socket()), patience_(patience) {
  if (!epoll_ || !listener_)
    throw HostError(errno, "make a socket", "raise the limit of open files (ulimit -n)");
  if (!watch(listener_.get(), EPOLLIN, EPOLL_CTL_ADD) || !watch(timer_.fd(), EPOLLIN, EPOLL_CTL_ADD))
    throw HostError(errno, "watch a socket", "raise fs.epoll.max_user_watches");
  const UnixAddress address = UnixAddress::of(key, path);
  if (::bind(listener_.get(), address.get(), address.size()) != 0) {
    if (errno == EADDRINUSE)
      throw ConfigError(key, path, "there is something at this path",
                        "give another path, or remove what is there if no VM uses it any more");
    throw ConfigError(key, path, "no socket can be made there: " + std::generic_category().message(errno),
                      "give a path in a folder that you may write");
  }
  if (::listen(listener_.get(), SOMAXCONN) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    throw HostError(error, "listen at '" + path + "'");
  }
  struct stat made = {};
  if (::stat(path.c_str(), &made) == 0) {
    device_ = made.st_dev;
    inode_ = made.st_ino;
  }
}

// Somebody may have put something else there meanwhile.
VsockListener::~VsockListener() {
  struct stat now = {};
  if (::lstat(path_.c_str(), &now) == 0 && now.st_dev == device_ && now.st_ino == inode_)
    ::unlink(path_.c_str());
}

bool VsockListener::watch(int fd, std::uint32_t events, int operation) const {
  epoll_event event{.events = events, .data = {.fd = fd}};
  return ::epoll_ctl(epoll_.get(), operation, fd, &event) == 0;
}

VsockListener::Connection VsockListener::connect(std::uint32_t port) const {
  const auto address = UnixAddress::at(path_ + "_" + std::to_string(port));
  Fd socket = address ? make_socket() : Fd();
  if (!socket) return {};
  if (::connect(socket.get(), address->get(), address->size()) != 0) return {.busy = errno == EAGAIN};
  return {.fd = std::move(socket)};
}

void VsockListener::serve(const Deliver& deliver) {
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; ++i) {
    const int fd = events[static_cast<std::size_t>(i)].data.fd;
    if (fd == listener_.get()) {
      accept(deliver);
    } else if (fd == timer_.fd()) {
      serve_timer();
    } else {
      const auto client = std::find_if(clients_.begin(), clients_.end(),
                                       [fd](const Client& each) { return each.fd.get() == fd; });
      if (client != clients_.end()) read_line(client, deliver);
    }
  }
  set_timer();
}

void VsockListener::accept(const Deliver& deliver) {
  constexpr int most_at_once = 64;
  for (int i = 0; i < most_at_once; ++i) {
    Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) {
      if (!out_of_descriptors(errno)) return;
      if (clients_.empty()) {
        resting_ = true;
        watch(listener_.get(), 0, EPOLL_CTL_MOD);
        return;
      }
      clients_.pop_front();
      continue;
    }
    if (clients_.size() == most_waiting) clients_.pop_front();
    if (!watch(fd.get(), EPOLLIN, EPOLL_CTL_ADD)) continue;
    clients_.push_back({.fd = std::move(fd), .until = Clock::now() + patience_});
    read_line(std::prev(clients_.end()), deliver);
  }
}

// Looks before it takes: what is behind the line is for the guest.
void VsockListener::read_line(Clients::iterator client, const Deliver& deliver) {
  char* const more = client->line.data() + client->size;
  const ssize_t seen =
      ::recv(client->fd.get(), more, client->line.size() - client->size, MSG_PEEK | MSG_DONTWAIT);
  if (seen < 0 && (errno == EAGAIN || errno == EINTR)) return;
  const auto here = static_cast<std::size_t>(std::max<ssize_t>(seen, 0));
  const auto* const end = static_cast<const char*>(std::memchr(more, '\n', here));
  const std::size_t taken = end == nullptr ? here : static_cast<std::size_t>(end + 1 - more);
  client->size += taken;
  const bool whole =
      taken != 0 && ::recv(client->fd.get(), more, taken, MSG_DONTWAIT) == static_cast<ssize_t>(taken);
  if (whole && end == nullptr && client->size < client->line.size()) return;

  const auto port = port_of({client->line.data(), client->size});
  Fd fd = std::move(client->fd);
  clients_.erase(client);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd.get(), nullptr);
  if (whole && port) deliver(std::move(fd), *port);
}

void VsockListener::serve_timer() {
  const auto now = Clock::now();
  while (!clients_.empty() && clients_.front().until <= now) clients_.pop_front();
  if (std::exchange(resting_, false)) watch(listener_.get(), EPOLLIN, EPOLL_CTL_MOD);
}

void VsockListener::set_timer() {
  if (resting_) {
    timer_.set(rest);
  } else if (clients_.empty()) {
    timer_.stop();
  } else {
    timer_.set(clients_.front().until - Clock::now());
  }
}

}  // namespace hum
