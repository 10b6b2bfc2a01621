// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/fd.h"

// Starts VMM processes, finds them again and signals them. From any thread. Nobody else may wait for a child
// of any number (waitpid(-1)) or ignore SIGCHLD: a child's number is its own only until it is reaped.
namespace hum {

// What tells a process from every other that this host has had or will have.
struct ProcessIdentity {
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // in clock ticks since the host's boot: field 22 of /proc/PID/stat
  std::string boot_id{};         // of /proc/sys/kernel/random/boot_id

  bool operator==(const ProcessIdentity&) const = default;
};

// Throws HostError.
std::string current_boot_id();

// What a process has used of the host, and uses.
struct ProcessUse {
  double cpu_seconds = 0;  // of its threads together
  std::uint64_t resident_bytes = 0;
};

struct SpawnRequest {
  // The program's path first, an absolute one: the process begins in the folder /.
  std::vector<std::string> arguments;
  int lock_fd = -1;      // a RunLock's, which the process holds from its first moment; -1: none
  std::string log_path;  // its standard error is added to this file
  // What else it gets: our number, its number, which is 1 or above 3.
  std::vector<std::pair<int, int>> descriptors{};
};

// A process that was seen to be the one that is meant, held by a pidfd: the only way by which signals are
// sent, so that they reach that process or none. Its end is not the process's.
class VmmProcess {
 public:
  // The process of that identity, if it lives and runs the program. Nullopt: it does not, the host has been
  // booted since, or the number is another's by now. program: the path that it was started by; best with no
  // links in it, which an upgrade may turn. It may be another file by now. Throws HostError without /proc.
  static std::optional<VmmProcess> adopt(const ProcessIdentity& identity, const std::string& program);

  const ProcessIdentity& identity() const { return identity_; }
  // The pidfd: readable once the process has ended.
  int fd() const { return pidfd_.get(); }
  bool ended() const;
  // Nullopt: it has ended, or the host does not say.
  std::optional<ProcessUse> use() const;
  // Nothing happens if the process has ended. Throws HostError.
  void signal(int number) const;
  // The exit code of a child of ours that has ended (128 + N if signal N ended it), which is gone then.
  // Nullopt: it runs, was reaped before, or is no child of ours.
  std::optional<int> reap() const;

 private:
  friend VmmProcess spawn(const SpawnRequest& request);
  VmmProcess(ProcessIdentity identity, Fd pidfd) : identity_(std::move(identity)), pidfd_(std::move(pidfd)) {}

  ProcessIdentity identity_;
  Fd pidfd_;
};

// Starts a VMM in a session of its own, with default signals, nothing to read, no output, and of our
// environment what hum-vmm reads (PATH, TMPDIR). Throws HostError; then no process is left.
VmmProcess spawn(const SpawnRequest& request);

// The lock of a VM's run folder. Its VMM inherits it and holds it as long as it lives, whatever becomes of
// us; that of this object goes with the object.
class RunLock {
 public:
  // Makes the file if there is none. Nullopt: somebody holds it, so a VMM lives. Throws HostError.
  static std::optional<RunLock> take(const std::string& path);
  int fd() const { return file_.get(); }

 private:
  explicit RunLock(Fd file) : file_(std::move(file)) {}

  Fd file_;
};

// What a VMM wrote about its VM's end.
struct VmmEnd {
  // As EndRecord has it. "running": it runs; if its process is gone, it was killed without a word.
  std::string cause;
  std::string detail{};
  std::optional<std::uint32_t> guest_exit_code{};
  bool ran = false;  // the VM was started

  bool without_a_word() const { return cause == "running"; }
};

// Both read the file that `hum-vmm --record` writes, with the host's errors and the writer's: nullopt where
// there is no such file, it is no plain one, larger than 1 MiB, or no record. They do not wait.
std::optional<VmmEnd> end_in_record(const std::string& path);
// Without the boot, which a record does not have: adopt() takes it once the caller has filled that in.
std::optional<ProcessIdentity> identity_in_record(const std::string& path);

// Which process runs the program (as in adopt) and holds the lock on that file: for a VMM that has been
// started but has written no record. Not this one. Looks at each process of the host.
std::optional<ProcessIdentity> find_holder(const std::string& path, const std::string& program);

}  // namespace hum
