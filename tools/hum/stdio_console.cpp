// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/stdio_console.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string_view>
#include <system_error>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr int drop_patience = 100;  // milliseconds

constexpr std::byte control_a{0x01};
constexpr std::string_view help_text =
    "\r\nCtrl-A x  end the VM\r\nCtrl-A h  this help\r\nCtrl-A Ctrl-A  send Ctrl-A\r\n";
constexpr long retry_nanoseconds = 5'000'000;
constexpr std::size_t piece_size = 512;  // the hub takes a piece whole or not
constexpr std::size_t most_waiting = 64 * 1024;

bool is_null_device(int fd) {
  struct ::stat status{};
  return ::fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

}  // namespace

EscapeFilter::Action EscapeFilter::filter(std::span<const std::byte> typed, std::vector<std::byte>& out) {
  for (const std::byte byte : typed) {
    if (!std::exchange(escaped_, false)) {
      if (byte == control_a) {
        escaped_ = true;
      } else {
        out.push_back(byte);
      }
      continue;
    }
    switch (std::to_integer<char>(byte)) {
      case 'x':
      case 'X':
        return Action::leave;
      case 'h':
      case '?':
        return Action::help;
      case 1:
        out.push_back(control_a);
        break;
      default:
        break;
    }
  }
  return Action::none;
}

ConsoleOutput::ConsoleOutput(ConsoleHub& hub, int output_fd, int ended_fd, Slow slow)
    : output_fd_(output_fd),
      ended_fd_(ended_fd),
      slow_(slow),
      subscription_(hub.subscribe([this](std::span<const std::byte> text) { write(text); })) {}

void ConsoleOutput::fail(int error) {
  if (!std::exchange(failed_, true) && error != EPIPE)
    std::fprintf(stderr, "hum: console output is lost: %s\n", std::strerror(error));
}

void ConsoleOutput::write(std::span<const std::byte> text) {
  if (failed_) return;
  while (!text.empty()) {
    std::array<pollfd, 2> fds{pollfd{.fd = output_fd_, .events = POLLOUT, .revents = 0},
                              pollfd{.fd = ended_fd_, .events = POLLIN, .revents = 0}};
    const int patience = slow_ == Slow::wait ? -1 : is_full_ ? 0 : drop_patience;
    const int ready = ::poll(fds.data(), fds.size(), patience);
    if (ready < 0 && errno != EINTR) return;
    is_full_ = ready == 0;
    if (is_full_) return;
    if ((fds[0].revents & (POLLERR | POLLNVAL)) != 0) return;
    if ((fds[0].revents & POLLOUT) == 0) {
      if ((fds[1].revents & POLLIN) != 0) return;
      continue;
    }
    // A write of at most PIPE_BUF bytes to a pipe that polls writable does not block.
    const ssize_t wrote = ::write(output_fd_, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
    if (wrote < 0 && errno != EINTR && errno != EAGAIN) return fail(errno);
    if (wrote > 0) text = text.subspan(static_cast<std::size_t>(wrote));
  }
}

ConsoleInput::ConsoleInput(EventLoop& loop, ConsoleHub& hub, int input_fd, bool escapes,
                           std::function<void()> leave)
    : loop_(loop), hub_(hub), input_fd_(input_fd), escapes_(escapes), leave_(std::move(leave)) {
  watch_input();
}

ConsoleInput::~ConsoleInput() {
  loop_.unwatch(input_fd_);
  loop_.unwatch(retry_timer_.fd());
}

void ConsoleInput::watch_input() {
  if (!loop_.try_watch(input_fd_, EventLoop::Interest::readable, [this] { read_some(); }))
    call_soon(1, [this] { read_some(); });
}

void ConsoleInput::read_some() {
  std::array<std::byte, 1024> typed;
  const ssize_t count = ::read(input_fd_, typed.data(), typed.size());
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (count <= 0) return loop_.unwatch(input_fd_);
  const auto got = std::span(typed).first(static_cast<std::size_t>(count));
  if (!escapes_) {
    loop_.unwatch(input_fd_);  // until the guest has taken this
    waiting_.assign(got.begin(), got.end());
  } else {
    const EscapeFilter::Action action = filter_.filter(got, waiting_);
    if (action == EscapeFilter::Action::leave) return leave_();
    if (action == EscapeFilter::Action::help) {
      [[maybe_unused]] const ssize_t wrote = ::write(STDERR_FILENO, help_text.data(), help_text.size());
    }
  }
  // On a terminal the escapes must work whatever the guest does: it loses what it does not read.
  if (waiting_.size() > most_waiting) waiting_.resize(most_waiting);
  pass_on();
}

void ConsoleInput::pass_on() {
  while (!waiting_.empty()) {
    const std::size_t piece = std::min(waiting_.size(), piece_size);
    if (!hub_.send(std::span(waiting_).first(piece)))
      return call_soon(retry_nanoseconds, [this] { pass_on(); });
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(piece));
  }
  if (!escapes_) watch_input();
}

void ConsoleInput::call_soon(long nanoseconds, std::function<void()> work) {
  retry_timer_.set(std::chrono::nanoseconds(nanoseconds));
  loop_.watch(retry_timer_.fd(), EventLoop::Interest::readable, [this, work = std::move(work)] {
    loop_.unwatch(retry_timer_.fd());
    work();
  });
}

StandardInput::StandardInput(EventLoop& loop, ConsoleHub& hub, bool escapes,
                             const std::function<void()>& leave)
    : loop_(loop) {
  const bool watched =
      loop_.try_watch(STDIN_FILENO, EventLoop::Interest::readable, [this, &hub, escapes, leave] {
        loop_.unwatch(STDIN_FILENO);
        try {
          begin(hub, escapes, leave);
        } catch (const std::exception& error) {
          // The VM goes on without: others may depend on it.
          std::fprintf(stderr, "the console takes no input: %s\n", error.what());
        }
      });
  // A file has something to say, /dev/null has not.
  if (!watched && !is_null_device(STDIN_FILENO)) begin(hub, escapes, leave);
}

StandardInput::~StandardInput() {
  if (thread_) {
    thread_->call([this] { input_.reset(); });
  } else {
    loop_.unwatch(STDIN_FILENO);
  }
}

void StandardInput::begin(ConsoleHub& hub, bool escapes, const std::function<void()>& leave) {
  thread_.emplace("hum-input");
  thread_->call([&] { input_.emplace(thread_->loop(), hub, STDIN_FILENO, escapes, leave); });
}

}  // namespace hum
