// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/host.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>

#include "vmm/base/fd.h"

namespace hum::doctor {
namespace {

constexpr std::size_t read_limit = 64 * 1024;
constexpr unsigned long landlock_version_flag = 1;  // LANDLOCK_CREATE_RULESET_VERSION

int errno_of(long result) {
  return result < 0 ? errno : 0;
}

int open_device(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  return fd ? 0 : errno;
}

int io_uring_setup() {
  io_uring_params parameters{};
  const Fd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 4, &parameters)));
  return ring ? 0 : errno;
}

int landlock_abi() {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, landlock_version_flag);
  return version < 0 ? -errno : static_cast<int>(version);
}

int seccomp_filter() {
  const std::uint32_t action = SECCOMP_RET_KILL_PROCESS;
  return errno_of(::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
}

// In a child, because there is no way back.
int user_namespace() {
  const pid_t child = ::fork();
  if (child < 0) return errno;
  if (child == 0) ::_exit(errno_of(::unshare(CLONE_NEWUSER)));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return errno;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
}

rlimit limit_of(int resource) {
  rlimit limit{};
  ::getrlimit(static_cast<__rlimit_resource>(resource), &limit);
  return limit;
}

}  // namespace

std::optional<std::string> Host::read(const std::string& path) const {
  const Fd fd(::open((root + path).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return std::nullopt;
  std::string text;
  std::array<char, 4096> piece;
  while (text.size() < read_limit) {
    const ssize_t got = ::read(fd.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
  text.erase(text.find_last_not_of(" \t\n") + 1);
  return text;
}

std::optional<std::uint64_t> Host::read_number(const std::string& path) const {
  const std::optional<std::string> text = read(path);
  std::uint64_t number = 0;
  if (!text) return std::nullopt;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return number;
}

bool Host::exists(const std::string& path) const {
  struct stat status{};
  return ::stat((root + path).c_str(), &status) == 0;
}

std::optional<std::string> Host::find_program(const std::string& name) const {
  std::string folders = program_path + ":/usr/sbin:/sbin";
  for (std::size_t begin = 0; begin < folders.size();) {
    const std::size_t end = std::min(folders.find(':', begin), folders.size());
    const std::string path = folders.substr(begin, end - begin) + "/" + name;
    if (path.starts_with('/') && ::access((root + path).c_str(), X_OK) == 0) return path;
    begin = end + 1;
  }
  return std::nullopt;
}

Host real_host() {
  const char* path = std::getenv("PATH");
  return {
      .root = "",
      .program_path = path == nullptr ? "" : path,
      .is_root_user = ::geteuid() == 0,
      .examine_kvm = examine_kvm,
      .open_device = open_device,
      .write_access = [](const std::string& file) { return errno_of(::access(file.c_str(), W_OK)); },
      .io_uring_setup = io_uring_setup,
      .landlock_abi = landlock_abi,
      .seccomp_filter = seccomp_filter,
      .user_namespace = user_namespace,
      .limit = limit_of,
  };
}

}  // namespace hum::doctor
