// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vmm/base/errors.h"

namespace hum {

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    if (number_ >= 0) ::close(number_);
    number_ = std::exchange(other.number_, -1);
  }
  return *this;
}

Fd::~Fd() {
  if (number_ >= 0) ::close(number_);
}

Fd Fd::duplicate(int number) {
  const int copy = ::fcntl(number, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw HostError(errno, "duplicate descriptor " + std::to_string(number));
  return Fd(copy);
}

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    throw HostError(errno, "make a pipe", "raise the limit of open files (ulimit -n)");
  return {.reader = Fd(ends[0]), .writer = Fd(ends[1])};
}

EventFd::EventFd() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!fd_) throw HostError(errno, "create an eventfd", "raise the limit of open files (ulimit -n)");
}

void EventFd::signal() const {
  const std::uint64_t one = 1;
  // EAGAIN means the counter is at its maximum, so the reader has a wake-up coming in any case.
  [[maybe_unused]] const ssize_t written = ::write(fd_.get(), &one, sizeof one);
}

bool EventFd::drain() const {
  std::uint64_t count = 0;
  const iovec part{&count, sizeof count};
  // Another process that has the eventfd may have made it a blocking one.
  ssize_t got = ::preadv2(fd_.get(), &part, 1, -1, RWF_NOWAIT);
  if (got < 0 && errno == EOPNOTSUPP) got = ::read(fd_.get(), &count, sizeof count);
  return got == sizeof count;
}

bool EventFd::pending() const {
  pollfd entry{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) == 1;
}

Timer::Timer() : fd_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
  if (!fd_) throw HostError(errno, "create a timer", "raise the limit of open files (ulimit -n)");
}

void Timer::set(std::chrono::nanoseconds delay) const {
  constexpr std::int64_t second = 1'000'000'000;
  const std::int64_t nanoseconds = std::max<std::int64_t>(1, delay.count());  // 0 would stop it
  const itimerspec when{.it_interval = {},
                        .it_value = {.tv_sec = nanoseconds / second, .tv_nsec = nanoseconds % second}};
  ::timerfd_settime(fd_.get(), 0, &when, nullptr);
}

void Timer::stop() const {
  const itimerspec never{};
  ::timerfd_settime(fd_.get(), 0, &never, nullptr);
}

Fd open_file(const std::string& path, int flags, unsigned mode, const std::string& fix) {
  const int number = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (number < 0) throw HostError(errno, "open '" + path + "'", fix);
  return Fd(number);
}

}  // namespace hum
