// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace hum {

// What a thread is for, and so which system calls it needs.
enum class ThreadKind : std::uint8_t {
  owner,  // the process's first: configures the VM, opens files, makes and joins the others
  api,    // reads requests and writes answers
  vcpu,   // runs the guest, and what devices do at once when it touches them
  io,     // all others: what devices do by themselves
};

// By the name that it was started with.
ThreadKind thread_kind(const std::string& name);

// The system calls that each kind of thread may make, with the arguments that matter. A thread has its kind's
// filter on top of its starter's, and keeps them. Any other call ends the process: a line goes to
// report_fd, and the exit code is exit_code. Any thread.
class SeccompFilters {
 public:
  static constexpr int exit_code = 148;
  // False where sanitizers are built in: their own calls are not known here.
  static bool supported();

  // The filters of this process; report_fd outlives it, and may change. There is one at a time. Throws
  // HostError.
  explicit SeccompFilters(const std::atomic<int>& report_fd);
  SeccompFilters(const SeccompFilters&) = delete;
  SeccompFilters& operator=(const SeccompFilters&) = delete;

  // For the calling thread, from now on. Throws HostError.
  void apply(ThreadKind kind) const;
};

}  // namespace hum
