// SPDX-License-Identifier: Apache-2.0
#include "devices/net/passt_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "vmm/base/errors.h"
#include "vmm/base/printable.h"

namespace hum {
namespace {

constexpr int socket_number = 3;          // of the socket, in passt
constexpr int first_own_number = 10;      // of what passt inherits, here: none is where another one goes
constexpr std::size_t most_heard = 1024;  // bytes

// A pipe whose reading end does not block, and whose writing end has a number that the new process does not
// use.
Pipe make_pipe_for_child() {
  Pipe pipe = make_pipe();
  ::fcntl(pipe.reader.get(), F_SETFL, O_NONBLOCK);
  pipe.writer = Fd(::fcntl(pipe.writer.get(), F_DUPFD_CLOEXEC, first_own_number));
  if (!pipe.writer) throw HostError(errno, "make a pipe");
  return pipe;
}

// What posix_spawn is told; owns the two lists.
struct SpawnPlan {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;

  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    // Signals that this process blocks or ignores are no business of the program.
    sigset_t set;
    sigemptyset(&set);
    ::posix_spawnattr_setsigmask(&attributes, &set);
    sigaddset(&set, SIGPIPE);
    ::posix_spawnattr_setsigdefault(&attributes, &set);
    ::posix_spawnattr_setflags(&attributes,
                               POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
  }
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
};

bool is_noise(std::string_view line) {
  return line.empty() || line.starts_with("Failed to send ");  // to a system log that is not there
}

std::string last_message(std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = text.find_last_not_of('\n') + 1;
    const std::size_t before = text.substr(0, end).rfind('\n');
    const std::size_t begin = before == std::string_view::npos ? 0 : before + 1;
    if (!is_noise(text.substr(begin, end - begin))) return std::string(text.substr(begin, end - begin));
    text = text.substr(0, begin);
  }
  return {};
}

}  // namespace

PasstProcess::PasstProcess(const std::string& program, const std::vector<std::string>& arguments,
                           int socket) {
  Pipe start = make_pipe_for_child();
  Pipe messages = make_pipe_for_child();
  const Fd inherited(::fcntl(socket, F_DUPFD_CLOEXEC, first_own_number));
  if (!inherited) throw HostError(errno, "hand the socket to passt");
  // passt writes its number "once initialisation is done", as another user where it was started by root.
  ::fchmod(start.writer.get(), 0666);
  SpawnPlan plan;
  ::posix_spawn_file_actions_addopen(&plan.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&plan.actions, start.writer.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&plan.actions, messages.writer.get(), STDERR_FILENO);
  ::posix_spawn_file_actions_adddup2(&plan.actions, inherited.get(), socket_number);
  ::posix_spawn_file_actions_addclosefrom_np(&plan.actions, socket_number + 1);

  std::vector<std::string> words = {
      "passt", "--foreground", "--quiet", "--pid", "/proc/self/fd/1", "--fd", std::to_string(socket_number)};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const int refused =
      ::posix_spawn(&pid_, program.c_str(), &plan.actions, &plan.attributes, pointers.data(), environ);
  if (refused != 0) throw HostError(refused, "run " + program);
  start_ = std::move(start.reader);
  messages_ = std::move(messages.reader);
  end_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (end_) return;
  const int error = errno;
  // Where somebody else has reaped it the number may be another's.
  if (error != ESRCH && ::kill(pid_, SIGKILL) == 0) ::waitpid(pid_, nullptr, 0);
  throw HostError(error, "watch " + program);
}

PasstProcess::~PasstProcess() {
  kill();
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(end_.get()), &info, WEXITED) != 0 && errno == EINTR) {
  }
}

bool PasstProcess::has_started() const {
  std::array<char, 32> number;
  return ::read(start_.get(), number.data(), number.size()) > 0;
}

bool PasstProcess::hear() {
  std::array<char, most_heard> piece;
  ssize_t count = 0;
  while ((count = ::read(messages_.get(), piece.data(), piece.size())) > 0) {
    heard_.append(piece.data(), static_cast<std::size_t>(count));
    if (heard_.size() > most_heard) heard_.erase(0, heard_.size() - most_heard);
  }
  return count < 0;
}

std::string PasstProcess::reason() {
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(end_.get()), &info, WEXITED | WNOWAIT | WNOHANG) != 0 ||
      info.si_pid == 0)
    return "it is gone";
  if (info.si_code != CLD_EXITED) return "signal " + std::to_string(info.si_status) + " ended it";
  hear();
  const std::string message = printable(last_message(heard_));
  return info.si_status == 0 || message.empty() ? "it ended with exit code " + std::to_string(info.si_status)
                                                : message;
}

// By its descriptor: the number may be another's where somebody else has reaped it.
void PasstProcess::kill() const {
  ::syscall(SYS_pidfd_send_signal, end_.get(), SIGKILL, nullptr, 0);
}

}  // namespace hum
