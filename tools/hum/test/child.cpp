// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/test/child.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr int exit_not_started = 127;

Pipe make_unblocking_pipe() {
  Pipe pipe = make_pipe();
  ::fcntl(pipe.reader.get(), F_SETFL, O_NONBLOCK);
  return pipe;
}

Fd input_of(const std::string& text) {
  if (text.empty()) return open_file("/dev/null", O_RDONLY);
  Fd file(::memfd_create("input", MFD_CLOEXEC));
  if (!file || ::pwrite(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    throw HostError(errno, "keep the input of a test in memory");
  return file;
}

// What the child does between vfork and exec: system calls only.
[[noreturn]] void become(const char* program, char* const* words, const std::array<int, 3>& streams,
                         pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(exit_not_started);  // it had ended before the line above
  for (int i = 0; i < 3; ++i) ::dup2(streams[static_cast<std::size_t>(i)], i);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv(program, words);
  ::_exit(exit_not_started);
}

}  // namespace

// vfork and not posix_spawn, which cannot tie the child's life to ours.
Child::Child(const std::string& program, std::vector<std::string> arguments, const std::string& input) {
  auto [output, output_end] = make_unblocking_pipe();
  auto [messages, messages_end] = make_unblocking_pipe();
  const Fd input_file = input_of(input);
  std::vector<char*> words;
  for (std::string& argument : arguments) words.push_back(argument.data());
  words.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::vfork();
  if (pid_ == 0)
    become(program.c_str(), words.data(), {input_file.get(), output_end.get(), messages_end.get()}, parent);
  if (pid_ < 0) throw HostError(errno, "start a process for a test");
  // glibc 2.36 declares pidfd_open without its C linkage.
  pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (!pidfd_) {
    const int error = errno;
    kill();
    reap();
    throw HostError(error, "watch a process");
  }
  output_ = std::move(output);
  messages_ = std::move(messages);
}

Child::~Child() {
  if (pid_ < 0) return;
  kill();
  reap();
}

void Child::kill() const {
  ::kill(pid_, SIGKILL);
}

ProcessEnd Child::reap() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  if (WIFSIGNALED(status)) return {ProcessEnd::By::signal, WTERMSIG(status)};
  return {ProcessEnd::By::exit, WEXITSTATUS(status)};
}

}  // namespace hum
