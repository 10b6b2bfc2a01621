// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/seccomp_rules.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <memory>

#include "devices/net/vhost_wire.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"
#include "vmm/kvm/requests.h"

namespace hum {
namespace {

constexpr unsigned owner = 1u << static_cast<unsigned>(ThreadKind::owner);
constexpr unsigned api = 1u << static_cast<unsigned>(ThreadKind::api);
constexpr unsigned vcpu = 1u << static_cast<unsigned>(ThreadKind::vcpu);
constexpr unsigned io = 1u << static_cast<unsigned>(ThreadKind::io);
constexpr unsigned devices = owner | vcpu | io;
constexpr unsigned all = devices | api;

struct Rule {
  int call;
  unsigned who;
};

// A call with one argument that is as it should be: (argument & mask) == value.
struct ArgumentRule {
  int call;
  unsigned who;
  unsigned argument;
  std::uint64_t value;
  std::uint64_t mask = UINT64_MAX;
};

// A filter holds for all threads that its thread starts. So what io threads may do their starters may, which
// are the owner and, when a guest switches a device on, vCPU threads; and the owner may do what any thread
// does.
constexpr Rule rules[] = {
    // The C library: memory, locks, threads, signals, time.
    {SCMP_SYS(brk), all},
    {SCMP_SYS(munmap), all},
    {SCMP_SYS(mremap), all},
    {SCMP_SYS(madvise), all},
    {SCMP_SYS(futex), all},
    {SCMP_SYS(set_robust_list), all},
    {SCMP_SYS(rseq), all},
    {SCMP_SYS(sched_yield), all},
    {SCMP_SYS(sched_getaffinity), all},
    {SCMP_SYS(exit), all},
    {SCMP_SYS(exit_group), all},
    {SCMP_SYS(rt_sigprocmask), all},
    {SCMP_SYS(rt_sigreturn), all},
    {SCMP_SYS(restart_syscall), all},
    {SCMP_SYS(getpid), all},
    {SCMP_SYS(gettid), all},
    {SCMP_SYS(getrandom), all},
    {SCMP_SYS(clock_gettime), all},
    {SCMP_SYS(clock_nanosleep), all},
    {SCMP_SYS(gettimeofday), all},
    {SCMP_SYS(time), all},
    {SCMP_SYS(rt_sigtimedwait), owner | vcpu},
    // Descriptors, and waiting for them.
    {SCMP_SYS(read), all},
    {SCMP_SYS(write), all},
    {SCMP_SYS(readv), all},
    {SCMP_SYS(writev), all},
    {SCMP_SYS(close), all},
    {SCMP_SYS(poll), all},
    {SCMP_SYS(ppoll), all},
    {SCMP_SYS(epoll_create1), all},
    {SCMP_SYS(epoll_ctl), all},
    {SCMP_SYS(epoll_wait), all},
    {SCMP_SYS(epoll_pwait), all},
    {SCMP_SYS(eventfd2), all},
    {SCMP_SYS(timerfd_create), all},
    {SCMP_SYS(timerfd_settime), all},
    {SCMP_SYS(newfstatat), all},
    {SCMP_SYS(fstat), all},
    {SCMP_SYS(pipe2), devices},
    {SCMP_SYS(memfd_create), devices},
    // Files and disks.
    {SCMP_SYS(lseek), devices},
    {SCMP_SYS(pread64), devices},
    {SCMP_SYS(pwrite64), devices},
    {SCMP_SYS(preadv), devices},
    {SCMP_SYS(pwritev), devices},
    {SCMP_SYS(preadv2), devices},
    {SCMP_SYS(pwritev2), devices},
    {SCMP_SYS(fsync), devices},
    {SCMP_SYS(fdatasync), devices},
    {SCMP_SYS(fallocate), devices},
    {SCMP_SYS(ftruncate), devices},
    {SCMP_SYS(statx), devices},
    {SCMP_SYS(fstatfs), devices},
    // Rings can do nothing but the operations that they were restricted to when they were made.
    {SCMP_SYS(io_uring_setup), devices},
    {SCMP_SYS(io_uring_register), devices},
    {SCMP_SYS(io_uring_enter), devices},
    // Sockets of the API, of vsock and of vhost-user, all local ones.
    {SCMP_SYS(bind), devices},
    {SCMP_SYS(listen), devices},
    {SCMP_SYS(connect), devices},
    {SCMP_SYS(accept), owner | api},
    {SCMP_SYS(accept4), all},
    {SCMP_SYS(shutdown), all},
    {SCMP_SYS(sendto), all},
    {SCMP_SYS(recvfrom), all},
    {SCMP_SYS(sendmsg), all},
    {SCMP_SYS(recvmsg), all},
    {SCMP_SYS(getsockopt), all},
    {SCMP_SYS(setsockopt), all},
    {SCMP_SYS(getsockname), all},
    {SCMP_SYS(getpeername), all},
    // Opening what the configuration names, and the end.
    {SCMP_SYS(openat), owner},
    {SCMP_SYS(unlink), devices},
    {SCMP_SYS(rename), owner},
    {SCMP_SYS(readlink), owner},
    {SCMP_SYS(access), owner},
    {SCMP_SYS(faccessat2), owner},  // of realpath, where a path has '..'
    {SCMP_SYS(getcwd), owner},
    {SCMP_SYS(sysinfo), owner},
    {SCMP_SYS(uname), owner},
    {SCMP_SYS(signalfd4), owner},
    {SCMP_SYS(getpgid), owner},
    {SCMP_SYS(getpgrp), owner},
    // The terminal's watcher.
    {SCMP_SYS(wait4), owner},
    {SCMP_SYS(dup2), owner},
    {SCMP_SYS(close_range), owner},
};

constexpr std::uint64_t thread_flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND |
                                       CLONE_THREAD | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                       CLONE_CHILD_CLEARTID;
constexpr std::uint64_t fork_flags = CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD;

constexpr ArgumentRule argument_rules[] = {
    // No memory of this process is ever executable.
    {SCMP_SYS(mmap), all, 2, 0, PROT_EXEC},
    {SCMP_SYS(mprotect), all, 2, 0, PROT_EXEC},
    // Threads, and the terminal's watcher. clone3, whose arguments are in memory, is one that this kernel has
    // not: the C library goes on to clone.
    {SCMP_SYS(clone), all, 0, thread_flags},
    {SCMP_SYS(clone), owner, 0, fork_flags},
    {SCMP_SYS(prctl), all, 0, PR_SET_NAME},
    {SCMP_SYS(prctl), all, 0, PR_GET_NAME},
    {SCMP_SYS(seccomp), devices, 0, SECCOMP_SET_MODE_FILTER},  // of a new thread
    // A signal that ends the process is raised with nobody to catch it.
    {SCMP_SYS(rt_sigaction), owner, 0, SIGINT},
    {SCMP_SYS(rt_sigaction), owner, 0, SIGTERM},
    {SCMP_SYS(rt_sigaction), owner, 0, SIGABRT},
    {SCMP_SYS(rt_sigaction), owner, 0, 32},  // the C library's own, when the first thread is made
    {SCMP_SYS(rt_sigaction), owner, 0, 33},
    {SCMP_SYS(socket), devices, 0, AF_UNIX},
    {SCMP_SYS(socketpair), devices, 0, AF_UNIX},
    // Not F_SETOWN and F_SETSIG, with which a descriptor sends signals to other processes.
    {SCMP_SYS(fcntl), all, 1, F_GETFD},
    {SCMP_SYS(fcntl), all, 1, F_SETFD},
    {SCMP_SYS(fcntl), all, 1, F_GETFL},
    {SCMP_SYS(fcntl), all, 1, F_SETFL},
    {SCMP_SYS(fcntl), all, 1, F_DUPFD_CLOEXEC},
    {SCMP_SYS(fcntl), devices, 1, F_OFD_SETLK},
    {SCMP_SYS(fcntl), devices, 1, F_ADD_SEALS},
    {SCMP_SYS(prlimit64), owner, 0, 0},  // of this process
    {SCMP_SYS(ioctl), all, 1, FIONBIO},
    {SCMP_SYS(ioctl), all, 1, FIONREAD},
    {SCMP_SYS(ioctl), owner, 1, TCGETS},
    {SCMP_SYS(ioctl), owner, 1, TCSETS},
    {SCMP_SYS(ioctl), owner, 1, TCSETSW},
    {SCMP_SYS(ioctl), owner, 1, TIOCGPGRP},
    {SCMP_SYS(ioctl), devices, 1, BLKGETSIZE64},
    {SCMP_SYS(ioctl), devices, 1, BLKSSZGET},
    {SCMP_SYS(ioctl), devices, 1, BLKPBSZGET},
    {SCMP_SYS(ioctl), owner, 1, SIOCETHTOOL},
    {SCMP_SYS(ioctl), owner, 1, SIOCGIFFLAGS},
    {SCMP_SYS(ioctl), owner, 1, SIOCGIFHWADDR},
    {SCMP_SYS(ioctl), owner, 1, SIOCGIFINDEX},
    {SCMP_SYS(ioctl), owner, 1, SIOCGIFMTU},
    // Of a tap that is made for a bridge.
    {SCMP_SYS(ioctl), owner, 1, SIOCSIFMTU},
    {SCMP_SYS(ioctl), owner, 1, SIOCSIFFLAGS},
    {SCMP_SYS(ioctl), owner, 1, SIOCBRADDIF},
    {SCMP_SYS(ioctl), owner, 1, TUNGETIFF},
    {SCMP_SYS(ioctl), owner, 1, TUNSETIFF},
    {SCMP_SYS(ioctl), owner, 1, TUNSETVNETHDRSZ},
    {SCMP_SYS(ioctl), owner, 1, TUNSETVNETLE},
    {SCMP_SYS(ioctl), devices, 1, TUNSETQUEUE},
    {SCMP_SYS(ioctl), devices, 1, TUNSETOFFLOAD},
    // The kernel's own carrier of a tap's frames.
    {SCMP_SYS(ioctl), devices, 1, vhost_wire::get_features},
    {SCMP_SYS(ioctl), devices, 1, vhost_wire::set_features},
    {SCMP_SYS(ioctl), devices, 1, vhost_wire::set_owner},
    {SCMP_SYS(ioctl), devices, 1, vhost_wire::set_memory},
    {SCMP_SYS(ioctl), devices, 1, vhost_wire::set_ring_size},
    {SCMP_SYS(ioctl), devices, 1, vhost_wire::set_ring_address},
    {SCMP_SYS(ioctl), devices, 1, vhost_wire::set_ring_base},
    {SCMP_SYS(ioctl), devices, 1, vhost_wire::set_ring_kick},
    {SCMP_SYS(ioctl), devices, 1, vhost_wire::set_ring_call},
    {SCMP_SYS(ioctl), devices, 1, vhost_wire::set_ring_error},
    {SCMP_SYS(ioctl), devices, 1, vhost_wire::net_set_backend},
};

void check(int result) {
  if (result < 0) throw HostError(-result, "make a seccomp filter");
}

}  // namespace

std::vector<sock_filter> seccomp_program(ThreadKind thread) {
  const unsigned kind = 1u << static_cast<unsigned>(thread);
  const std::unique_ptr<void, decltype(&::seccomp_release)> context(::seccomp_init(SCMP_ACT_TRAP),
                                                                    &::seccomp_release);
  if (!context) throw HostError(ENOMEM, "make a seccomp filter");
  // Of another interface, x32 or 32 bits: the default ends the thread only.
  check(::seccomp_attr_set(context.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
  const auto allow = [&](const ArgumentRule& rule) {
    scmp_arg_cmp argument{};
    argument.arg = rule.argument;
    argument.op = rule.mask == UINT64_MAX ? SCMP_CMP_EQ : SCMP_CMP_MASKED_EQ;
    argument.datum_a = rule.mask == UINT64_MAX ? rule.value : rule.mask;
    argument.datum_b = rule.value;
    if ((rule.who & kind) != 0)
      check(::seccomp_rule_add_array(context.get(), SCMP_ACT_ALLOW, rule.call, 1, &argument));
  };
  for (const Rule& rule : rules)
    if ((rule.who & kind) != 0) check(::seccomp_rule_add(context.get(), SCMP_ACT_ALLOW, rule.call, 0));
  for (const ArgumentRule& rule : argument_rules) allow(rule);
  for (const unsigned long request : kvm_owner_requests()) allow({SCMP_SYS(ioctl), owner, 1, request});
  for (const unsigned long request : kvm_run_requests()) allow({SCMP_SYS(ioctl), devices, 1, request});
  allow({SCMP_SYS(tgkill), all, 0, seccomp_own_pid});
  check(::seccomp_rule_add(context.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0));
  // A tree: the kernel tries each system call there is when it takes a filter, to know which are always
  // allowed.
  check(::seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2));

  const Fd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file) throw HostError(errno, "make a file in memory");
  check(::seccomp_export_bpf(context.get(), file.get()));
  std::vector<sock_filter> program(static_cast<std::size_t>(::lseek(file.get(), 0, SEEK_END)) /
                                   sizeof(sock_filter));
  const std::size_t size = program.size() * sizeof(sock_filter);
  if (::pread(file.get(), program.data(), size, 0) != static_cast<ssize_t>(size))
    throw HostError(EIO, "read a seccomp filter");
  return program;
}

}  // namespace hum
