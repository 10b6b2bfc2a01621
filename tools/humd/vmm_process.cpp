// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/vmm_process.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>

#include "vmm/base/errors.h"

namespace hum {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t largest_record = 1024 * 1024;
constexpr std::size_t largest_proc_file = 4096;
// hum-vmm puts another descriptor here in passt, so that no process but the VMM holds its lock.
constexpr int inherited_lock = 3;
constexpr unsigned private_file = 0600;

// A plain file's content. Nullopt: there is none, it is no plain one, or larger than that.
std::optional<std::string> content_of(const std::string& path, std::size_t most) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  std::string text;
  std::array<char, 4096> piece;
  for (;;) {
    const ssize_t count = ::read(file.get(), piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return {};
    if (count == 0) return text;
    text.append(piece.data(), static_cast<std::size_t>(count));
    if (text.size() > most) return {};
  }
}

std::string of_process(pid_t pid, std::string_view name) {
  return "/proc/" + std::to_string(pid) + "/" + std::string(name);
}

// A number of /proc/PID/stat, fields counted from 1, from behind the name, which may hold blanks and
// brackets.
std::uint64_t stat_number(std::string_view text, int wanted) {
  text.remove_prefix(std::min(text.rfind(')'), text.size()));
  for (int field = 2; field < wanted && !text.empty(); ++field)
    text.remove_prefix(std::min(text.find(' '), text.size() - 1) + 1);
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

constexpr int start_time_field = 22;

// 0: there is no such process.
std::uint64_t start_time_of(pid_t pid) {
  const std::optional<std::string> text = content_of(of_process(pid, "stat"), largest_proc_file);
  return text ? stat_number(*text, start_time_field) : 0;
}

// By its path and not by the file behind it: an upgrade puts another file in its place, and the old one,
// which the process goes on with, has the kernel's word behind its name from then on. What the old file was
// nobody but the process keeps, so its number could be a new file's.
bool runs_program(pid_t pid, const std::string& program) {
  std::array<char, PATH_MAX> target;
  const ssize_t size = ::readlink(of_process(pid, "exe").c_str(), target.data(), target.size());
  if (size <= 0) return false;
  std::string_view path(target.data(), static_cast<std::size_t>(size));
  constexpr std::string_view deleted = " (deleted)";
  if (path.ends_with(deleted)) path.remove_suffix(deleted.size());
  if (path == program) return true;
  std::error_code error;
  return path == fs::canonical(program, error).native() && !error;
}

// glibc 2.36 declares pidfd_open without its C linkage.
Fd open_pidfd(pid_t pid) {
  return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

bool has_ended(const Fd& pidfd) {
  pollfd entry{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) != 0;
}

// A file of ours that is written to, made if there is none. Whatever else has its name is not touched.
Fd open_own(const std::string& path, int flags) {
  Fd file = open_file(path, flags | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, private_file);
  struct stat status{};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
    throw HostError(EINVAL, "use '" + path + "', which is no plain file", "remove it");
  return file;
}

// What posix_spawn is told; owns the two lists.
struct SpawnPlan {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;

  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    sigset_t set;
    ::sigemptyset(&set);
    ::posix_spawnattr_setsigmask(&attributes, &set);
    ::sigfillset(&set);
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

std::vector<std::string> environment_of_vmm() {
  std::vector<std::string> variables;
  for (const char* const name : {"PATH", "TMPDIR"})
    if (const char* const value = std::getenv(name)) variables.push_back(std::string(name) + "=" + value);
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

std::optional<json> record_at(const std::string& path) {
  const std::optional<std::string> text = content_of(path, largest_record);
  if (!text) return {};
  json record = json::parse(*text, nullptr, false);
  if (!record.is_object()) return {};
  return record;
}

std::optional<std::string> text_in(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return {};
  return found->get<std::string>();
}

// Above 0 and up to that.
std::optional<std::uint64_t> number_in(const json& object, const char* key, std::uint64_t most) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_unsigned()) return {};
  const auto number = found->get<std::uint64_t>();
  if (number == 0 || number > most) return {};
  return number;
}

// fdinfo names a lock where the lock is this descriptor's own, and not where the file is merely open.
bool has_lock(const std::string& descriptor_info) {
  const std::optional<std::string> text = content_of(descriptor_info, largest_proc_file);
  if (!text) return false;
  const std::size_t line = text->find("\nlock:");
  return line != std::string::npos && text->find(" FLOCK ", line) != std::string::npos;
}

struct FileNumber {
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::uint64_t inode = 0;
  bool operator==(const FileNumber&) const = default;
};

// Does not ask a file server: a VMM's disk may be on one that does not answer.
std::optional<FileNumber> number_of(const std::string& path, int flags) {
  struct statx status{};
  if (::statx(AT_FDCWD, path.c_str(), flags | AT_STATX_DONT_SYNC, STATX_INO, &status) != 0) return {};
  return FileNumber{status.stx_dev_major, status.stx_dev_minor, status.stx_ino};
}

// The entries of a folder below /proc that are numbers; none where it cannot be read.
std::vector<int> numbers_in(const std::string& folder) {
  std::vector<int> numbers;
  std::error_code error;
  for (fs::directory_iterator at(folder, error); !error && at != fs::directory_iterator();
       at.increment(error)) {
    const std::string name = at->path().filename();
    int number = 0;
    const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (failure == std::errc() && end == name.data() + name.size()) numbers.push_back(number);
  }
  return numbers;
}

bool holds(pid_t pid, const FileNumber& file) {
  for (const int number : numbers_in(of_process(pid, "fdinfo"))) {
    const std::string name = std::to_string(number);
    if (has_lock(of_process(pid, "fdinfo/" + name)) && number_of(of_process(pid, "fd/" + name), 0) == file)
      return true;
  }
  return false;
}

}  // namespace

std::string current_boot_id() {
  static const std::string id = [] {
    std::optional<std::string> text = content_of("/proc/sys/kernel/random/boot_id", largest_proc_file);
    if (!text || text->empty())
      throw HostError(ENOENT, "read /proc/sys/kernel/random/boot_id", "mount /proc");
    if (text->ends_with('\n')) text->pop_back();
    return *text;
  }();
  return id;
}

std::optional<VmmProcess> VmmProcess::adopt(const ProcessIdentity& identity, const std::string& program) {
  // Numbers of 0 and less mean groups, and 1 is the host's own.
  if (identity.pid <= 1 || identity.start_time == 0 || identity.boot_id != current_boot_id()) return {};
  Fd pidfd = open_pidfd(identity.pid);
  if (!pidfd) return {};
  const bool is_it =
      start_time_of(identity.pid) == identity.start_time && runs_program(identity.pid, program);
  // Last: as long as the process of the pidfd has not ended, its number was its own and what was read is of
  // it.
  if (!is_it || has_ended(pidfd)) return {};
  return VmmProcess(identity, std::move(pidfd));
}

bool VmmProcess::ended() const {
  return has_ended(pidfd_);
}

std::optional<ProcessUse> VmmProcess::use() const {
  constexpr int user_time_field = 14;
  constexpr int system_time_field = 15;
  constexpr int resident_field = 24;
  const std::optional<std::string> text = content_of(of_process(identity_.pid, "stat"), largest_proc_file);
  if (!text || stat_number(*text, start_time_field) != identity_.start_time || ended()) return {};
  const std::uint64_t ticks = stat_number(*text, user_time_field) + stat_number(*text, system_time_field);
  return ProcessUse{.cpu_seconds = static_cast<double>(ticks) / static_cast<double>(::sysconf(_SC_CLK_TCK)),
                    .resident_bytes = stat_number(*text, resident_field) *
                                      static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))};
}

void VmmProcess::signal(int number) const {
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0) != 0 && errno != ESRCH)
    throw HostError(errno,
                    "send signal " + std::to_string(number) + " to process " + std::to_string(identity_.pid));
}

std::optional<int> VmmProcess::reap() const {
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
    return {};
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

// posix_spawn and not fork: it copies no page tables, so it takes as long from a large daemon as from a
// small.
VmmProcess spawn(const SpawnRequest& request) {
  const Fd log = open_own(request.log_path, O_WRONLY | O_APPEND);
  // Copies with numbers that no descriptor gets in the new process, so that none replaces another's source.
  int above = inherited_lock + 1;
  for (const auto& [ours, its] : request.descriptors) above = std::max(above, its + 1);
  std::vector<std::pair<Fd, int>> inherited;
  const auto inherit = [&](int ours, int its) {
    Fd copy(::fcntl(ours, F_DUPFD_CLOEXEC, above));
    if (!copy) throw HostError(errno, "hand descriptor " + std::to_string(ours) + " to a VMM");
    inherited.emplace_back(std::move(copy), its);
  };
  inherit(log.get(), STDERR_FILENO);
  if (request.lock_fd >= 0) inherit(request.lock_fd, inherited_lock);
  for (const auto& [ours, its] : request.descriptors) inherit(ours, its);

  SpawnPlan plan;
  ::posix_spawn_file_actions_addopen(&plan.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&plan.actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  for (const auto& [copy, its] : inherited)
    ::posix_spawn_file_actions_adddup2(&plan.actions, copy.get(), its);
  // Also what we were started with, which need not have O_CLOEXEC.
  for (int number = request.lock_fd >= 0 ? inherited_lock + 1 : inherited_lock; number < above; ++number)
    if (std::none_of(inherited.begin(), inherited.end(),
                     [&](const auto& each) { return each.second == number; }))
      ::posix_spawn_file_actions_addclose(&plan.actions, number);
  ::posix_spawn_file_actions_addclosefrom_np(&plan.actions, above);
  ::posix_spawn_file_actions_addchdir_np(&plan.actions, "/");

  std::vector<std::string> words = request.arguments;
  std::vector<std::string> variables = environment_of_vmm();
  const std::string boot_id = current_boot_id();
  pid_t pid = -1;
  const int refused = ::posix_spawn(&pid, words.front().c_str(), &plan.actions, &plan.attributes,
                                    pointers(words).data(), pointers(variables).data());
  if (refused != 0) throw HostError(refused, "start '" + words.front() + "'");
  Fd pidfd = open_pidfd(pid);
  int error = errno;
  const std::uint64_t start_time = start_time_of(pid);  // there for a zombie, too
  if (pidfd && start_time != 0) return VmmProcess({pid, start_time, boot_id}, std::move(pidfd));
  if (pidfd) error = ESRCH;
  // A child that was not reaped: the number is its own.
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  throw HostError(error, "watch process " + std::to_string(pid), "raise the limit of open files (ulimit -n)");
}

std::optional<RunLock> RunLock::take(const std::string& path) {
  Fd file = open_own(path, O_RDWR);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) return RunLock(std::move(file));
  if (errno == EWOULDBLOCK) return {};
  throw HostError(errno, "lock '" + path + "'");
}

std::optional<VmmEnd> end_in_record(const std::string& path) {
  const std::optional<json> record = record_at(path);
  if (!record) return {};
  const std::optional<std::string> cause = text_in(*record, "cause");
  if (!cause || cause->empty()) return {};
  VmmEnd end{.cause = *cause,
             .detail = text_in(*record, "detail").value_or(""),
             .ran = !text_in(*record, "started").value_or("").empty()};
  if (const auto code = record->find("guest_exit_code");
      code != record->end() && code->is_number_unsigned() && code->get<std::uint64_t>() <= UINT32_MAX)
    end.guest_exit_code = code->get<std::uint32_t>();
  return end;
}

std::optional<ProcessIdentity> identity_in_record(const std::string& path) {
  const std::optional<json> record = record_at(path);
  if (!record) return {};
  const auto process = record->find("process");
  if (process == record->end() || !process->is_object()) return {};
  const auto pid = number_in(*process, "pid", INT_MAX);
  const auto start_time = number_in(*process, "start_ticks", UINT64_MAX);
  if (!pid || !start_time) return {};
  return ProcessIdentity{.pid = static_cast<pid_t>(*pid), .start_time = *start_time};
}

std::optional<ProcessIdentity> find_holder(const std::string& path, const std::string& program) {
  const std::optional<FileNumber> lock = number_of(path, AT_SYMLINK_NOFOLLOW);
  if (!lock) return {};
  const std::string boot_id = current_boot_id();
  for (const pid_t pid : numbers_in("/proc")) {
    if (pid == ::getpid()) continue;
    const Fd pidfd = open_pidfd(pid);
    if (!pidfd || !runs_program(pid, program) || !holds(pid, *lock)) continue;
    const std::uint64_t start_time = start_time_of(pid);
    // As in adopt: what was read is of one process only if that has not ended.
    if (start_time != 0 && !has_ended(pidfd)) return ProcessIdentity{pid, start_time, boot_id};
  }
  return {};
}

}  // namespace hum
