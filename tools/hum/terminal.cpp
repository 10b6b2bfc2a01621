// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "vmm/base/errors.h"

namespace hum {
namespace {

// Waits for the end of the process that holds the pipe's other end. One byte says that it restored the
// terminal itself. Runs in a forked child: only async-signal-safe calls.
[[noreturn]] void watch_over(int pipe, int terminal, const termios& saved) {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);  // SIGTTOU too: tcsetattr works from the background
  // Nothing of the VM may live on in this process: keep the standard streams and the pipe.
  ::dup2(pipe, 3);
  pipe = 3;
  ::close_range(4, ~0u, 0);
  char done = 0;
  ssize_t count = 0;
  do {
    count = ::read(pipe, &done, 1);
  } while (count < 0 && errno == EINTR);
  if (count == 0) ::tcsetattr(terminal, TCSANOW, &saved);
  ::_exit(0);
}

}  // namespace

RawTerminal::RawTerminal(int fd, bool keep_signals) : fd_(fd) {
  if (::tcgetattr(fd_, &saved_) != 0) throw HostError(errno, "read the terminal's settings");
  auto [watched, alive] = make_pipe();
  alive_ = std::move(alive);
  watcher_ = ::fork();
  if (watcher_ < 0) throw HostError(errno, "start the terminal's watcher");
  if (watcher_ == 0) {
    alive_.reset();
    ::prctl(PR_SET_NAME, "hum-terminal");
    watch_over(watched.get(), fd_, saved_);
  }
  termios raw = saved_;
  ::cfmakeraw(&raw);
  if (keep_signals) raw.c_lflag |= ISIG;
  if (::tcsetattr(fd_, TCSANOW, &raw) != 0) throw HostError(errno, "switch the terminal to raw mode");
}

RawTerminal::~RawTerminal() {
  restore();
  const char done = 1;
  [[maybe_unused]] const ssize_t wrote = ::write(alive_.get(), &done, 1);
  alive_.reset();
  while (::waitpid(watcher_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void RawTerminal::pass_signals() const {
  termios settings{};
  if (::tcgetattr(fd_, &settings) != 0) return;
  settings.c_lflag &= ~static_cast<tcflag_t>(ISIG);
  ::tcsetattr(fd_, TCSANOW, &settings);
}

void RawTerminal::restore() const {
  ::tcsetattr(fd_, TCSADRAIN, &saved_);
}

std::optional<std::pair<unsigned, unsigned>> terminal_size(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) return std::nullopt;
  return std::pair<unsigned, unsigned>(size.ws_row, size.ws_col);
}

}  // namespace hum
