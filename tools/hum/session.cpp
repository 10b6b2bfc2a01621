// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/session.h"

#include <fcntl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <tuple>
#include <utility>

#include "tools/hum/exit_codes.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

sigset_t session_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH}) {
    // What whoever started us chose to ignore (nohup, a shell's background job) stays ignored.
    struct sigaction action{};
    ::sigaction(signal, nullptr, &action);
    if (signal == SIGWINCH || action.sa_handler != SIG_IGN) ::sigaddset(&set, signal);
  }
  return set;
}

constexpr unsigned retry_seconds = 2;     // from a pause that a device wanted to the next try
constexpr unsigned settled_seconds = 3;   // without another failure: the cause is gone
constexpr std::size_t longest_line = 64;  // that a guest says

}  // namespace

void block_session_signals() {
  const sigset_t set = session_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

Session::Session(Vm& vm, SessionOptions options) : vm_(vm), options_(std::move(options)) {
  const sigset_t set = session_signals();
  signals_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) throw HostError(errno, "watch for signals");
  if (options_.console == SessionOptions::Console::file)
    console_file_ = open_file(options_.console_file, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, 0644,
                              "give --console a file that can be written, or a fifo that somebody reads");
}

void Session::open_console() {
  const bool typed = ::isatty(STDIN_FILENO) != 0;
  if (options_.command_on_terminal || (options_.console == SessionOptions::Console::stdio && typed))
    // Until a command has started, nobody but us can take its user's Ctrl-C.
    terminal_.emplace(STDIN_FILENO, options_.command_on_terminal);
  if (options_.console == SessionOptions::Console::file) {
    output_.emplace(vm_.console(), console_file_.get(), vm_.end_fd());
  } else if (options_.console == SessionOptions::Console::stdio) {
    output_.emplace(vm_.console(), STDOUT_FILENO, vm_.end_fd());
    input_.emplace(loop_, vm_.console(), typed, [this] { end_now(EndCause::killed, "Ctrl-A x"); });
  }
}

void Session::arm(const Timer& timer, unsigned seconds, std::function<void()> action) {
  timer.set(std::chrono::seconds(seconds));
  loop_.watch(timer.fd(), EventLoop::Interest::readable, [this, fd = timer.fd(), action = std::move(action)] {
    loop_.unwatch(fd);
    action();
  });
}

void Session::hear_command() {
  std::array<char, 256> said;
  const ssize_t count = ::recv(options_.control_fd, said.data(), said.size(), MSG_DONTWAIT);
  if (count == 0) loop_.unwatch(options_.control_fd);
  for (ssize_t i = 0; i < count; ++i) {
    const char each = said[static_cast<std::size_t>(i)];
    if (each == '\n') {
      heed(std::exchange(heard_, {}));
    } else if (heard_.size() < longest_line) {
      heard_ += each;
    }
  }
}

// Until a command has started, a signal is for the VM.
void Session::heed(const std::string& line) {
  if (line == "ready" && command_ == Command::none) {
    command_ = Command::runs;
    if (terminal_) terminal_->pass_signals();
  } else if (line == "ended") {
    command_ = Command::ended;
  }
}

// As a local command would, the guest's learns of it when it next writes there.
void Session::watch_output(int fd, const std::string& port) {
  // A regular file, which cannot be watched, has no reader that could go.
  std::ignore = loop_.try_watch(fd, EventLoop::Interest::end, [this, fd, port] {
    loop_.unwatch(fd);
    tell_command("closed " + port + "\n");
  });
}

void Session::tell_command(const std::string& line) {
  // The socket holds far more than a user can type; what does not fit is a guest that reads nothing.
  ::send(options_.control_fd, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void Session::send_window_size() {
  if (options_.control_fd < 0) return;
  if (const auto size = terminal_size(STDIN_FILENO))
    tell_command("winsize " + std::to_string(size->first) + " " + std::to_string(size->second) + "\n");
}

void Session::end_now(EndCause cause, const std::string& detail) {
  give_up_.signal();
  vm_.end(cause, detail);
}

void Session::stop_gently(int signal) {
  const auto kill = [this, signal] {
    exit_code_ = exit_signal + signal;
    end_now(EndCause::signal, "signal " + std::to_string(signal));
  };
  // A command ends as if the signal had been sent to it; where it has ended already, the signal is for what
  // still delivers its output. A system is switched off. A second signal, or a machine without a power
  // button, does not wait.
  if (command_ != Command::none) tell_command("signal " + std::to_string(signal) + "\n");
  if (command_ == Command::ended) give_up_.signal();
  if (end_thread_ || stopping_ || (!vm_.press_power_button() && command_ == Command::none)) return kill();
  stopping_ = true;
  arm(stop_timer_, options_.stop_timeout, kill);
}

void Session::on_signal() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGWINCH) {
      send_window_size();
    } else if ((signal == SIGINT || signal == SIGQUIT) && command_ == Command::runs && !end_thread_) {
      tell_command("signal " + std::to_string(signal) + "\n");
    } else {
      stop_gently(signal);
    }
  }
}

void Session::on_pause_wanted() {
  const std::string reason = vm_.take_pause_reason();
  if (!vm_.pause()) return;
  if (!std::exchange(pause_told_, true))
    std::fprintf(stderr, "hum: %s; the VM is paused, and tries it again every %u s\n", reason.c_str(),
                 retry_seconds);
  arm(retry_timer_, retry_seconds, [this] { try_again(); });
}

void Session::try_again() {
  if (!vm_.pause()) return;  // has ended meanwhile
  vm_.resume();
  arm(retry_timer_, settled_seconds, [this] {
    pause_told_ = false;
    std::fprintf(stderr, "hum: the VM goes on\n");
  });
}

// Signals and time-outs are served meanwhile.
void Session::deliver_output() {
  for (const int fd : {vm_.end_fd(), vm_.pause_wanted_fd(), retry_timer_.fd()}) loop_.unwatch(fd);
  end_thread_.emplace("hum-end");
  end_thread_->loop().post([this] {
    vm_.wait(give_up_.fd());
    loop_.stop();
  });
}

int Session::run() {
  open_console();
  send_window_size();
  loop_.watch(signals_.get(), EventLoop::Interest::readable, [this] { on_signal(); });
  if (options_.control_fd >= 0)
    loop_.watch(options_.control_fd, EventLoop::Interest::readable, [this] { hear_command(); });
  for (const auto& [fd, port] : options_.outputs) watch_output(fd, port);
  loop_.watch(vm_.end_fd(), EventLoop::Interest::readable, [this] { deliver_output(); });
  loop_.watch(vm_.pause_wanted_fd(), EventLoop::Interest::readable, [this] { on_pause_wanted(); });
  if (options_.timeout != 0)
    arm(timeout_timer_, options_.timeout, [this] {
      exit_code_ = exit_timeout;
      end_now(EndCause::killed, "the time-out of " + std::to_string(options_.timeout) + " s has passed");
    });
  vm_.start();
  loop_.run();
  const EndRecord& record = vm_.wait();
  input_.reset();
  output_.reset();
  terminal_.reset();
  // A guest that obeyed the power button has ended well: its own end counts.
  return exit_code_ ? *exit_code_ : exit_code_of(record);
}

}  // namespace hum
