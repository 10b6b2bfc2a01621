// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <poll.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tools/hum-vmm/testing.h"
#include "vmm/base/fd.h"
#include "vmm/base/temporary_folder.h"

namespace hum::testing {

namespace fs = std::filesystem;

inline constexpr uid_t user = 61234;
inline constexpr gid_t group = 61235;
inline constexpr std::chrono::seconds patience{30};

bool is_static(const std::string& program);

bool no_jails(const testing::TemporaryFolder& folder);

std::string content_of(const std::string& path);

// A word of a line of /proc/PID/status or limits.
std::string line_of(const std::string& file, const std::string& beginning);

std::string of_process(pid_t pid, const std::string& name);

bool until(const std::function<bool()>& condition);

// What is below a folder, and who has it.
std::vector<std::string> tree(const std::string& folder);

std::string text_of(int fd);

// A process whose parent has ended and which came to this one, ended with the test.
class Stranger {
 public:
  explicit Stranger(pid_t pid) : pid_(pid), pidfd_(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))) {}
  ~Stranger() {
    if (pidfd_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
    ::waitpid(pid_, nullptr, 0);
  }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const { ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0); }
  bool ended() const {
    pollfd entry{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    constexpr auto milliseconds = std::chrono::milliseconds(patience).count();
    return ::poll(&entry, 1, static_cast<int>(milliseconds)) == 1;
  }

 private:
  pid_t pid_;
  Fd pidfd_;
};

// Jails below a temporary folder, and a link to hum-vmm of the name that clients look for.
class Jailer {
 public:
  Jailer();

  std::string root(const std::string& id = "vm1") const {
    return folder / ("jails/firecracker/" + id + "/root");
  }
  // A file that the jail is to have.
  void put(const std::string& name, const std::string& content) const;
  void put_vm(const std::string& image, const std::string& boot_arguments) const;
  std::vector<std::string> words(const std::vector<std::string>& own,
                                 const std::vector<std::string>& vmm) const;
  Child start(const std::vector<std::string>& own, const std::vector<std::string>& vmm) const;

  testing::TemporaryFolder folder;
};

ProcessEnd end_of(Child& child);

// The jailer's message where it refuses to start anything, and nothing where it does not.
std::string refusal(const Jailer& jailer, const std::vector<std::string>& own);

bool has(const std::string& text, const std::string& part);

}  // namespace hum::testing
