// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/seccomp.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "devices/net/vhost_wire.h"
#include "tools/hum-vmm/testing.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using testing::VmmProcess;
using Kind = ThreadKind;

constexpr int done = 42;

bool no_filters() {
  if (SeccompFilters::supported()) return false;
  WARN("skipped: a build with sanitizers has no filters");
  return true;
}

struct Result {
  int exit_code;
  std::string report;
};

// What comes of a call by a thread of that kind, in a process of its own.
Result result_of(Kind kind, const std::function<void()>& call) {
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0);
  const Fd reader(ends[0]);
  const Fd writer(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    const std::atomic<int> report_fd = writer.get();
    const SeccompFilters filters(report_fd);
    const ThreadHook hook = [&](const std::string& name) { filters.apply(thread_kind(name)); };
    hook_new_threads(&hook);
    filters.apply(Kind::owner);
    if (kind == Kind::owner) {
      call();
    } else {
      const char* const name = kind == Kind::api ? "hum-api" : kind == Kind::vcpu ? "vcpu0" : "disk";
      start_thread(name, call).join();
    }
    ::_exit(done);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  std::array<char, 512> text{};
  const ssize_t count = ::read(reader.get(), text.data(), text.size());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
          std::string(text.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0)))};
}

bool is_allowed(Kind kind, const std::function<void()>& call) {
  const Result result = result_of(kind, call);
  CHECK((result.exit_code == done || result.exit_code == SeccompFilters::exit_code));
  return result.exit_code == done;
}

std::string line_of(const std::filesystem::path& file, const std::string& beginning) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(beginning)) return line.substr(beginning.size());
  return {};
}

std::string hang_config(const testing::TemporaryFolder& folder) {
  using nlohmann::json;
  const std::string kernel = std::string(HUM_IMAGE_FOLDER) + "/hang.elf";
  std::ofstream(folder / "config.json")
      << json{{"boot-source", {{"kernel_image_path", kernel}, {"boot_args", "method=busy"}}},
              {"machine-config", {{"vcpu_count", 1}, {"mem_size_mib", 32}}}};
  return folder / "config.json";
}

}  // namespace

TEST_CASE("threads are of a kind by their names") {
  CHECK(thread_kind("hum-api") == Kind::api);
  CHECK(thread_kind("vcpu0") == Kind::vcpu);
  CHECK(thread_kind("vcpu31") == Kind::vcpu);
  for (const char* const name : {"disk", "net-0", "hum-input", "", "my-vcpu0"})
    CHECK(thread_kind(name) == Kind::io);
}

TEST_CASE("what no thread needs ends the process, with a word of which call and thread it was") {
  if (no_filters()) return;
  const auto kind = GENERATE(Kind::owner, Kind::api, Kind::vcpu, Kind::io);
  const Result result = result_of(kind, [] { ::syscall(SYS_execve, nullptr, 0xabcdefL, nullptr); });
  CHECK(result.exit_code == SeccompFilters::exit_code);
  CHECK(result.report.find("the system call 59 (0x0, 0xabcdef, ...) by the thread '") != std::string::npos);
  if (kind == Kind::vcpu) CHECK(result.report.find("'vcpu0'") != std::string::npos);
  for (const long call : {SYS_ptrace, SYS_mount, SYS_setuid, SYS_kill, SYS_process_vm_writev, SYS_unshare,
                          SYS_bpf, SYS_keyctl, SYS_pidfd_send_signal})
    CHECK_FALSE(is_allowed(kind, [call] { ::syscall(call, -1, -1, -1, -1, -1); }));
  // The same number with the bit of the x32 interface.
  CHECK(result_of(kind, [] { ::syscall(0x40000000 | SYS_getpid); }).exit_code != done);
}

TEST_CASE("memory is never executable") {
  if (no_filters()) return;
  const auto kind = GENERATE(Kind::owner, Kind::api, Kind::vcpu, Kind::io);
  const auto map = [](int protection) {
    ::mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  };
  CHECK(is_allowed(kind, [&] { map(PROT_READ | PROT_WRITE); }));
  CHECK_FALSE(is_allowed(kind, [&] { map(PROT_READ | PROT_EXEC); }));
  CHECK_FALSE(is_allowed(kind, [] { ::mprotect(nullptr, 0, PROT_EXEC); }));
  CHECK_FALSE(is_allowed(kind, [] { ::syscall(SYS_pkey_mprotect, nullptr, 0, PROT_EXEC, -1); }));
}

TEST_CASE("sockets are local ones, and only the API's thread makes none") {
  if (no_filters()) return;
  const auto socket = [](int domain) { ::socket(domain, SOCK_STREAM, 0); };
  for (const Kind kind : {Kind::owner, Kind::vcpu, Kind::io}) {
    CHECK(is_allowed(kind, [&] { socket(AF_UNIX); }));
    for (const int domain : {AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_ALG})
      CHECK_FALSE(is_allowed(kind, [&] { socket(domain); }));
  }
  CHECK_FALSE(is_allowed(Kind::api, [&] { socket(AF_UNIX); }));
}

TEST_CASE("only the owner opens files, forks, and asks KVM for machines") {
  if (no_filters()) return;
  constexpr unsigned long create_vm = 0xae01;
  constexpr unsigned long run = 0xae80;
  constexpr unsigned long push_a_character = TIOCSTI;
  for (const Kind kind : {Kind::owner, Kind::api, Kind::vcpu, Kind::io}) {
    const bool is_owner = kind == Kind::owner;
    CHECK(is_allowed(kind, [] { ::syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY); }) == is_owner);
    CHECK(is_allowed(kind, [] {
            if (::fork() == 0) ::_exit(0);
          }) == is_owner);
    CHECK(is_allowed(kind, [] { ::ioctl(-1, create_vm); }) == is_owner);
    CHECK(is_allowed(kind, [] { ::ioctl(-1, run); }) == (kind != Kind::api));
    CHECK_FALSE(is_allowed(kind, [] { ::ioctl(-1, push_a_character); }));
    CHECK_FALSE(is_allowed(kind, [] { ::ioctl(-1, create_vm | 1ul << 32); }));
  }
}

TEST_CASE("a device's thread gives the guest the memory that it plugs") {
  if (no_filters()) return;
  constexpr unsigned long set_user_memory_region = 0x4020ae46;
  for (const Kind kind : {Kind::owner, Kind::vcpu, Kind::io})
    CHECK(is_allowed(kind, [] { ::ioctl(-1, set_user_memory_region); }));
  CHECK_FALSE(is_allowed(Kind::api, [] { ::ioctl(-1, set_user_memory_region); }));
}

TEST_CASE(
    "interfaces of the host are changed by the owner only, and the kernel's carrier is told by devices") {
  if (no_filters()) return;
  for (const Kind kind : {Kind::owner, Kind::api, Kind::vcpu, Kind::io}) {
    CHECK(is_allowed(kind, [] { ::ioctl(-1, SIOCBRADDIF); }) == (kind == Kind::owner));
    CHECK(is_allowed(kind, [] { ::ioctl(-1, SIOCSIFFLAGS); }) == (kind == Kind::owner));
    CHECK(is_allowed(kind, [] { ::ioctl(-1, vhost_wire::set_ring_kick); }) == (kind != Kind::api));
    CHECK_FALSE(is_allowed(kind, [] { ::ioctl(-1, SIOCBRADDBR); }));
  }
}

TEST_CASE("threads are made and signalled, but not in other processes") {
  if (no_filters()) return;
  for (const Kind kind : {Kind::owner, Kind::vcpu, Kind::io}) {
    CHECK(is_allowed(kind, [] { start_thread("another", [] {}).join(); }));
    CHECK(is_allowed(kind, [] { ::syscall(SYS_tgkill, ::getpid(), ::gettid(), 0); }));
    CHECK_FALSE(is_allowed(kind, [] { ::syscall(SYS_tgkill, 1, 1, 0); }));
    CHECK_FALSE(is_allowed(kind, [] { ::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, nullptr); }));
    // The C library goes on to clone then.
    CHECK(result_of(kind, [] {
            clone_args arguments{};
            const long result = ::syscall(SYS_clone3, &arguments, sizeof arguments);
            ::_exit(result == -1 && errno == ENOSYS ? 1 : 2);
          }).exit_code == 1);
  }
}

TEST_CASE("no descriptor sends signals to other processes, and no limits of others are set") {
  if (no_filters()) return;
  for (const Kind kind : {Kind::owner, Kind::api, Kind::vcpu, Kind::io}) {
    CHECK(is_allowed(kind, [] { ::fcntl(STDIN_FILENO, F_GETFL); }));
    for (const int command : {F_SETOWN, F_SETOWN_EX, F_SETSIG, F_SETLEASE, F_NOTIFY})
      CHECK_FALSE(is_allowed(kind, [command] { ::fcntl(-1, command, 0); }));
    CHECK_FALSE(is_allowed(kind, [] { ::prlimit(1, RLIMIT_CPU, nullptr, nullptr); }));
  }
  CHECK(is_allowed(Kind::owner, [] { ::prlimit(0, RLIMIT_CPU, nullptr, nullptr); }));
}

TEST_CASE("nobody takes the place of the handler that tells of a forbidden call") {
  if (no_filters()) return;
  CHECK_FALSE(is_allowed(Kind::owner, [] { std::signal(SIGSYS, SIG_IGN); }));
  CHECK(is_allowed(Kind::owner, [] { std::signal(SIGTERM, SIG_DFL); }));
}

TEST_CASE("each thread of a running VM has its filter, and --no-seccomp leaves all without") {
  if (no_filters()) return;
  if (::access("/dev/kvm", R_OK | W_OK) != 0) {
    WARN("skipped: /dev/kvm cannot be opened");
    return;
  }
  const testing::TemporaryFolder folder;
  const bool is_off = GENERATE(false, true);
  std::vector<std::string> arguments = {"--config-file", hang_config(folder), "--log-path", folder / "log"};
  if (is_off) arguments.emplace_back("--no-seccomp");
  VmmProcess process(HUM_VMM_PROGRAM, arguments);
  testing::ApiClient client = process.client();
  REQUIRE(nlohmann::json::parse(client.call("GET", "/")->body)["state"] == "Running");
  // A new thread gets its name and its filter as its first actions.
  const std::string tasks = "/proc/" + std::to_string(process.pid()) + "/task";
  const std::map<std::string, std::string> wanted = {{"hum-vmm", "1"}, {"hum-api", "2"}, {"vcpu0", "2"}};
  const auto late = std::chrono::steady_clock::now() + testing::api_patience;
  bool as_wanted = false;
  while (!as_wanted && std::chrono::steady_clock::now() < late) {
    std::map<std::string, std::string> filters;
    for (const auto& each : std::filesystem::directory_iterator(tasks)) {
      const std::filesystem::path status = each.path() / "status";
      CHECK(line_of(status, "Seccomp:\t") == (is_off ? "0" : "2"));
      CHECK(line_of(status, "NoNewPrivs:\t") == (is_off ? "0" : "1"));
      filters[line_of(status, "Name:\t")] = line_of(status, "Seccomp_filters:\t");
    }
    as_wanted = std::all_of(wanted.begin(), wanted.end(), [&](const auto& each) {
      return filters[each.first] == (is_off ? "0" : each.second);
    });
  }
  CHECK(as_wanted);
  std::ifstream log(folder / "log");
  const std::string text((std::istreambuf_iterator<char>(log)), {});
  CHECK((text.find("system calls are not restricted: --no-seccomp") != std::string::npos) == is_off);
}

// As whoever has taken the process over would: its next system call becomes another.
TEST_CASE("a forbidden call by hum-vmm is its end, with code 148 and a line in its log") {
  if (no_filters()) return;
  const testing::TemporaryFolder folder;
  VmmProcess process(HUM_VMM_PROGRAM, {"--log-path", folder / "log"});
  REQUIRE(process.client().call("GET", "/"));  // it waits for the next request then
  const pid_t pid = process.pid();
  if (::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) {
    WARN("skipped: this test may not trace its own child");
    return;
  }
  const auto stop = [&] {
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    REQUIRE(WIFSTOPPED(status));
  };
  ::ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr);
  stop();
  ::ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr);  // to the entry of the next call
  stop();
  user_regs_struct registers{};
  REQUIRE(::ptrace(PTRACE_GETREGS, pid, nullptr, &registers) == 0);
  registers.orig_rax = SYS_execve;
  REQUIRE(::ptrace(PTRACE_SETREGS, pid, nullptr, &registers) == 0);
  ::ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
  const ProcessEnd end = process.wait();
  CHECK(end.by == ProcessEnd::By::exit);
  CHECK(end.code == SeccompFilters::exit_code);
  std::ifstream log(folder / "log");
  const std::string text((std::istreambuf_iterator<char>(log)), {});
  CHECK(text.find("the system call 59 (") != std::string::npos);
}

}  // namespace hum
