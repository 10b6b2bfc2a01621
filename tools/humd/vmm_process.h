// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/fd.h"

namespace hum {

// What tells a process from every other that this host has had or will have.
struct ProcessIdentity {
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // in clock ticks since the host's start: field 22 of /proc/PID/stat
  std::string boot_id{};         // of /proc/sys/kernel/random/boot_id
};

// Throws HostError.
std::string current_boot_id();

// A process that was seen to be the one that is meant. The only way by which signals are sent: a pidfd, so
// that they reach that process or none.
class VmmProcess {
 public:
  // The process of that identity, if it lives and runs the program, or what an upgrade has put another in
  // place of. Nullopt: it does not, or the number is another's.
  static std::optional<VmmProcess> adopt(const ProcessIdentity& identity, const std::string& program);

  const ProcessIdentity& identity() const { return identity_; }
  // Readable from the process's end on.
  int fd() const { return pidfd_.get(); }
  bool has_ended() const;
  // Nothing happens to a process that has ended. Throws HostError.
  void signal(int number) const;
  // Lets go of one that has ended, if it is a child of ours.
  void reap() const;

 private:
  friend VmmProcess spawn(const struct SpawnRequest& request);
  VmmProcess(ProcessIdentity identity, Fd pidfd) : identity_(std::move(identity)), pidfd_(std::move(pidfd)) {}

  ProcessIdentity identity_;
  Fd pidfd_;
};

// The lock of a VM's run folder: taken before its VMM is started, and held by that as long as it lives.
class RunLock {
 public:
  // None: somebody holds it. Throws HostError.
  static std::optional<RunLock> take(const std::string& path);
  int fd() const { return file_.get(); }

 private:
  explicit RunLock(Fd file) : file_(std::move(file)) {}
  Fd file_;
};

struct SpawnRequest {
  std::vector<std::string> arguments;  // the program's path first
  int lock_fd = -1;                    // a RunLock's, which the process holds, too
  std::string log_path;                // what it says on its standard error is added to this file
};

// Starts a VMM in a session of its own, with nothing of this process's but the lock. Throws HostError.
VmmProcess spawn(const SpawnRequest& request);

// What a VMM has written about itself and its VM's end. Empty where the file is no record.
struct VmmEnd {
  std::string
      cause;  // as in EndRecord: "running" while it runs, and ever after if it was killed without a word
  std::string detail;
  std::optional<std::uint32_t> guest_exit_code;
  bool ran = false;  // the VM was started
};
VmmEnd end_in_record(const std::string& path);
// Without the host's boot. Nullopt: there is no such file, or not yet.
std::optional<ProcessIdentity> identity_in_record(const std::string& path);

// Who has that file open and runs the program; not this process.
std::optional<ProcessIdentity> find_holder(const std::string& path, const std::string& program);

}  // namespace hum
