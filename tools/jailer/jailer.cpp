// SPDX-License-Identifier: Apache-2.0
#include "tools/jailer/jailer.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <ctime>
#include <fstream>
#include <iterator>

#include "tools/jailer/cgroups.h"
#include "tools/jailer/jail.h"
#include "tools/jailer/undo.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

std::uint64_t time_us(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec) / 1000;
}

void set_limit(__rlimit_resource resource, std::uint64_t value, const char* name) {
  const rlimit limit{value, value};
  if (::setrlimit(resource, &limit) != 0)
    throw HostError(errno, std::string("set the limit ") + name + " to " + std::to_string(value),
                    "give a lower one");
}

void set_limits(const JailerArguments& arguments) {
  if (arguments.most_file_bytes) set_limit(RLIMIT_FSIZE, *arguments.most_file_bytes, "fsize");
  set_limit(RLIMIT_NOFILE, arguments.most_open_files, "no-file");
}

// What whoever started the jailer passes on to programs without rights: inheritable capabilities, and with
// them the ambient ones, which a user who is not root keeps over execve(2).
void drop_inherited_rights() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0) throw HostError(errno, "read the capabilities");
  for (__user_cap_data_struct& each : sets) each.inheritable = 0;
  if (::syscall(SYS_capset, &header, sets.data()) != 0) throw HostError(errno, "drop capabilities");
}

// Executes the program as its user. An error leaves this process as it was: root's identity is kept as the
// saved one, and execve(2) replaces that by the effective one.
[[noreturn]] void execute(const JailerArguments& arguments, std::vector<std::string> command) {
  drop_inherited_rights();
  if (::setgroups(0, nullptr) != 0 || ::setresgid(arguments.gid, arguments.gid, 0) != 0 ||
      ::setresuid(arguments.uid, arguments.uid, 0) != 0)
    throw HostError(errno, "become user " + std::to_string(arguments.uid));
  std::vector<char*> words;
  for (std::string& each : command) words.push_back(each.data());
  words.push_back(nullptr);
  char* no_environment = nullptr;
  ::execve(words.front(), words.data(), &no_environment);
  const int error = errno;
  if (::setresuid(0, 0, 0) != 0 || ::setresgid(0, 0, 0) != 0) ::_exit(1);
  throw HostError(error, "execute '" + command.front() + "' in the jail");
}

void detach(const Fd& null) {
  if (::setsid() < 0) throw HostError(errno, "begin a session");
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::dup2(null.get(), stream) < 0) throw HostError(errno, "redirect the standard streams");
}

// Runs the program in a process of its own, and returns when it was executed.
void run_in_child(const JailerArguments& arguments, const JailerStart& start, const Fd& null,
                  JailFolder& jail, Undo& undo) {
  auto [go, go_end] = make_pipe();
  auto [fault, fault_end] = make_pipe();
  const std::uint64_t spent = time_us(CLOCK_PROCESS_CPUTIME_ID) - start.cpu_us;
  clone_args how{};
  how.flags = arguments.new_pid_namespace ? CLONE_NEWPID : 0;
  how.exit_signal = SIGCHLD;
  const auto child = static_cast<pid_t>(::syscall(SYS_clone3, &how, sizeof how));
  if (child < 0) throw HostError(errno, "start a process in a namespace of its own");
  if (child == 0) {
    std::string text;
    try {
      go_end.reset();
      char word = 0;
      if (::read(go.get(), &word, 1) != 1) ::_exit(1);  // the parent has failed
      if (arguments.daemonize) detach(null);
      set_limits(arguments);
      execute(arguments, jailed_command(arguments, start, time_us(CLOCK_PROCESS_CPUTIME_ID), spent));
    } catch (const std::exception& error) {
      text = error.what();
    }
    if (::write(fault_end.get(), text.data(), text.size()) < 0) {
    }  // its end tells as well
    ::_exit(1);
  }
  go.reset();
  fault_end.reset();
  std::signal(SIGPIPE, SIG_IGN);  // of a child that was killed: what was made is taken back
  std::string text;
  try {
    jail.write_pid(child, undo);
    if (::write(go_end.get(), "g", 1) != 1) throw HostError(errno, "let the jailed process go on");
    std::array<char, 512> buffer{};
    for (ssize_t count = 0; (count = ::read(fault.get(), buffer.data(), buffer.size())) > 0;)
      text.append(buffer.data(), static_cast<std::size_t>(count));
  } catch (const HostError&) {
    go_end.reset();
    ::waitpid(child, nullptr, 0);
    throw;
  }
  if (text.empty()) return;
  ::waitpid(child, nullptr, 0);
  throw std::runtime_error(text);
}

std::string mounts() {
  std::ifstream file("/proc/self/mounts");
  if (!file) throw HostError(errno, "read /proc/self/mounts", "mount /proc");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

JailerStart JailerStart::now() {
  return {time_us(CLOCK_MONOTONIC), time_us(CLOCK_PROCESS_CPUTIME_ID)};
}

std::vector<std::string> jailed_command(const JailerArguments& arguments, const JailerStart& start,
                                        std::uint64_t cpu_us, std::uint64_t parent_cpu_us) {
  std::vector<std::string> words = {"/" + arguments.exec_name(),
                                    "--id",
                                    arguments.id,
                                    "--start-time-us",
                                    std::to_string(start.wall_us),
                                    "--start-time-cpu-us",
                                    std::to_string(cpu_us),
                                    "--parent-cpu-time-us",
                                    std::to_string(parent_cpu_us)};
  words.insert(words.end(), arguments.passed_on.begin(), arguments.passed_on.end());
  return words;
}

void run_jailed(const JailerArguments& arguments, const JailerStart& start) {
  if (::geteuid() != 0) throw HostError(EPERM, "make a jail", "run hum-jailer as root");
  // Whatever the caller has left open is not for the jail.
  if (::close_range(STDERR_FILENO + 1, UINT_MAX, 0) != 0) throw HostError(errno, "close all files");
  const Fd executable = open_executable(arguments.exec_file);
  const Fd netns = arguments.netns.empty() ? Fd() : open_network_namespace(arguments.netns);
  const Fd null = arguments.daemonize ? open_file("/dev/null", O_RDWR) : Fd();
  std::vector<CgroupPlan> cgroups;
  if (arguments.cgroup_version == 2 || !arguments.cgroups.empty())
    cgroups = plan_cgroups(arguments, mounts());

  Undo undo;
  JailFolder jail(arguments, executable, undo);
  for (const CgroupPlan& each : cgroups) enter_cgroup(each, undo);
  if (netns && ::setns(netns.get(), CLONE_NEWNET) != 0)
    throw HostError(errno, "join the network namespace '" + arguments.netns + "'");
  jail.enter(undo);
  if (arguments.daemonize || arguments.new_pid_namespace) {
    run_in_child(arguments, start, null, jail, undo);
    undo.keep();
    return;
  }
  jail.write_pid(::getpid(), undo);
  set_limits(arguments);
  const std::uint64_t now = time_us(CLOCK_PROCESS_CPUTIME_ID);
  execute(arguments, jailed_command(arguments, start, now, now - start.cpu_us));
}

}  // namespace hum
