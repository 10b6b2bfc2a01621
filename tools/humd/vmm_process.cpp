// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/vmm_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "tools/humd/files.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

using nlohmann::json;

constexpr std::size_t largest_record = 1024 * 1024;
constexpr int inherited_lock = 3;
constexpr unsigned private_file = 0600;

// Up to that many bytes of a file that is a plain one.
std::string small_file(const std::string& path, std::size_t most) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  std::string text(most, '\0');
  std::size_t size = 0;
  while (size < most) {
    const ssize_t count = ::read(file.get(), text.data() + size, most - size);
    if (count <= 0) break;
    size += static_cast<std::size_t>(count);
  }
  text.resize(size);
  return text;
}

// Field 22 of /proc/PID/stat, counted from behind the name, which may hold blanks and brackets; 0 for a
// zombie or none.
std::uint64_t start_time_of(pid_t pid) {
  const std::string text = small_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= text.size()) return 0;
  std::string_view fields = std::string_view(text).substr(name_end + 2);
  if (fields.front() == 'Z' || fields.front() == 'X') return 0;
  for (int field = 3; field < 22; ++field) {
    const std::size_t blank = fields.find(' ');
    if (blank == std::string_view::npos) return 0;
    fields.remove_prefix(blank + 1);
  }
  return std::strtoull(fields.data(), nullptr, 10);
}

// An upgrade puts another file in the place of one that runs, which is then called so.
bool runs_program(pid_t pid, const std::string& program) {
  std::array<char, PATH_MAX> target{};
  const ssize_t size =
      ::readlink(("/proc/" + std::to_string(pid) + "/exe").c_str(), target.data(), target.size());
  if (size <= 0) return false;
  std::string_view name(target.data(), static_cast<std::size_t>(size));
  constexpr std::string_view deleted = " (deleted)";
  if (name.ends_with(deleted)) name.remove_suffix(deleted.size());
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(program.c_str(), nullptr), &std::free);
  return name == program || (real && name == real.get());
}

Fd open_pidfd(pid_t pid) {
  return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

json record_at(const std::string& path) {
  const json record = json::parse(small_file(path, largest_record), nullptr, false);
  return record.is_object() ? record : json::object();
}

std::string text_in(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::uint64_t number_in(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

struct SpawnPlan {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;

  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    sigset_t set;
    ::sigemptyset(&set);
    ::posix_spawnattr_setsigmask(&attributes, &set);
    ::sigaddset(&set, SIGPIPE);  // the only one that this process ignores
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

}  // namespace

std::string current_boot_id() {
  std::string text = small_file("/proc/sys/kernel/random/boot_id", 64);
  while (text.ends_with('\n')) text.pop_back();
  if (text.empty()) throw HostError(ENOENT, "read /proc/sys/kernel/random/boot_id", "mount /proc");
  return text;
}

std::optional<VmmProcess> VmmProcess::adopt(const ProcessIdentity& identity, const std::string& program) {
  if (identity.pid <= 1 || identity.start_time == 0 || identity.boot_id != current_boot_id()) return {};
  Fd pidfd = open_pidfd(identity.pid);
  // What is read from here on is of the process that the pidfd stands for, if that has not ended at the end
  // of it.
  if (!pidfd || start_time_of(identity.pid) != identity.start_time || !runs_program(identity.pid, program))
    return {};
  VmmProcess process(identity, std::move(pidfd));
  if (process.has_ended()) return {};
  return process;
}

bool VmmProcess::has_ended() const {
  pollfd entry{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) != 0;
}

void VmmProcess::signal(int number) const {
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0) != 0 && errno != ESRCH)
    throw HostError(errno, "send a signal to process " + std::to_string(identity_.pid));
}

void VmmProcess::reap() const {
  siginfo_t info{};
  ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG);
}

std::optional<RunLock> RunLock::take(const std::string& path) {
  Fd file = open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, private_file);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) return RunLock(std::move(file));
  if (errno == EWOULDBLOCK) return {};
  throw HostError(errno, "lock '" + path + "'");
}

VmmProcess spawn(const SpawnRequest& request) {
  SpawnPlan plan;
  ::posix_spawn_file_actions_addopen(&plan.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&plan.actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&plan.actions, STDERR_FILENO, request.log_path.c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, private_file);
  ::posix_spawn_file_actions_adddup2(&plan.actions, request.lock_fd, inherited_lock);
  std::vector<char*> arguments;
  for (const std::string& each : request.arguments) arguments.push_back(const_cast<char*>(each.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> variables;
  for (char** each = environ; *each != nullptr; ++each)
    if (std::string_view(*each).starts_with("PATH=")) variables.push_back(*each);
  variables.push_back(nullptr);
  pid_t pid = -1;
  const int refused = ::posix_spawn(&pid, request.arguments.front().c_str(), &plan.actions, &plan.attributes,
                                    arguments.data(), variables.data());
  if (refused != 0)
    throw HostError(refused, "start '" + request.arguments.front() + "'", "give --vmm PROGRAM");
  // It is our child, so its number is its own until we let go of it, even if it has ended.
  Fd pidfd = open_pidfd(pid);
  if (!pidfd) throw HostError(errno, "watch process " + std::to_string(pid));
  return VmmProcess({.pid = pid, .start_time = start_time_of(pid)}, std::move(pidfd));
}

VmmEnd end_in_record(const std::string& path) {
  const json record = record_at(path);
  VmmEnd end{.cause = text_in(record, "cause"),
             .detail = text_in(record, "detail"),
             .guest_exit_code = {},
             .ran = !text_in(record, "started").empty()};
  if (const auto code = record.find("guest_exit_code"); code != record.end() && code->is_number_unsigned())
    end.guest_exit_code = static_cast<std::uint32_t>(code->get<std::uint64_t>());
  return end;
}

std::optional<ProcessIdentity> identity_in_record(const std::string& path) {
  const json record = record_at(path);
  const auto process = record.find("process");
  if (process == record.end() || !process->is_object()) return {};
  const std::uint64_t pid = number_in(*process, "pid");
  if (pid == 0 || pid > INT_MAX) return {};
  return ProcessIdentity{.pid = static_cast<pid_t>(pid), .start_time = number_in(*process, "start_ticks")};
}

std::optional<ProcessIdentity> find_holder(const std::string& path, const std::string& program) {
  struct stat wanted{};
  if (::stat(path.c_str(), &wanted) != 0) return {};
  for (const std::int64_t number : numbers_in("/proc")) {
    const auto pid = static_cast<pid_t>(number);
    if (pid <= 1 || pid == ::getpid() || !runs_program(pid, program)) continue;
    struct stat found{};
    const std::string lock = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(inherited_lock);
    if (::stat(lock.c_str(), &found) != 0 || found.st_ino != wanted.st_ino || found.st_dev != wanted.st_dev)
      continue;
    return ProcessIdentity{.pid = pid, .start_time = start_time_of(pid)};
  }
  return {};
}

}  // namespace hum
