// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/seccomp.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <span>
#include <string_view>
#include <vector>

#include "tools/hum-vmm/seccomp_rules.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

// For the handler, which has nothing else: what it writes to.
const std::atomic<int>* report_to = nullptr;

// Only what a signal handler may do, and what every filter allows.
void report_and_end(int /*signal*/, siginfo_t* info, void* context) {
  const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  std::array<char, 16> thread{};
  ::prctl(PR_GET_NAME, thread.data());
  std::array<char, 256> text{};
  char* end = text.data();
  const auto add = [&](std::string_view part) { end = std::copy(part.begin(), part.end(), end); };
  add("hum-vmm: the system call ");
  end = std::to_chars(end, end + 12, info->si_syscall).ptr;
  add(" (0x");
  end = std::to_chars(end, end + 20, static_cast<std::uint64_t>(registers[REG_RDI]), 16).ptr;
  add(", 0x");
  end = std::to_chars(end, end + 20, static_cast<std::uint64_t>(registers[REG_RSI]), 16).ptr;
  add(", ...) by the thread '");
  add(thread.data());
  add("' is none that it needs; this is an attack, or a fault of hum-vmm\n");
  if (::write(report_to->load(), text.data(), static_cast<std::size_t>(end - text.data())) < 0) {
  }  // nobody to tell
  ::_exit(SeccompFilters::exit_code);
}

void catch_violations() {
  struct sigaction action{};
  action.sa_sigaction = report_and_end;
  action.sa_flags = SA_SIGINFO;
  if (::sigaction(SIGSYS, &action, nullptr) != 0) throw HostError(errno, "catch SIGSYS");
}

}  // namespace

ThreadKind thread_kind(const std::string& name) {
  if (name == "hum-api") return ThreadKind::api;
  return name.starts_with("vcpu") ? ThreadKind::vcpu : ThreadKind::io;
}

bool SeccompFilters::supported() {
#ifdef HUM_SANITIZED
  return false;
#else
  return true;
#endif
}

SeccompFilters::SeccompFilters(const std::atomic<int>& report_fd) {
  report_to = &report_fd;
  catch_violations();
}

void SeccompFilters::apply(ThreadKind kind) const {
  const std::span<const sock_filter> made = made_seccomp_program(kind);
  std::vector<sock_filter> program(made.begin(), made.end());
  for (sock_filter& each : program)
    if (each.k == seccomp_own_pid) each.k = static_cast<std::uint32_t>(::getpid());
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  const bool is_first = kind == ThreadKind::owner;
  if ((is_first && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) ||
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0)
    throw HostError(errno, "filter system calls", "use a kernel with seccomp filters, or give --no-seccomp");
}

}  // namespace hum
