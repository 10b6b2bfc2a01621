// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/vmm_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tools/humd/vmm_process_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {
namespace {

using namespace hum::testing;
namespace fs = std::filesystem;

const std::string sleeper = fs::canonical("/bin/sleep");
const std::string shell = fs::canonical("/bin/sh");

std::string link_of(const VmmProcess& process, const std::string& name) {
  return fs::read_symlink("/proc/" + std::to_string(process.identity().pid) + "/" + name);
}

std::string proc_file(const VmmProcess& process, const std::string& name) {
  return file_content("/proc/" + std::to_string(process.identity().pid) + "/" + name);
}

// Whether a program has so many open; the files that its loader reads come and go as it begins.
bool has_descriptors(const VmmProcess& process, std::ptrdiff_t number) {
  return until([&] {
    const fs::directory_iterator list("/proc/" + std::to_string(process.identity().pid) + "/fd");
    return std::distance(begin(list), end(list)) == number;
  });
}

// A descriptor of that number or the next that is free.
Fd moved(const Fd& fd, int number) {
  return Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, number));
}

bool is_free(const std::string& lock) {
  return RunLock::take(lock).has_value();
}

// A place for a signal's disposition and the mask, put back at the end.
class OddSignals {
 public:
  OddSignals() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &set, &mask_);
    before_ = ::signal(SIGHUP, SIG_IGN);
  }
  ~OddSignals() {
    ::signal(SIGHUP, before_);
    ::sigprocmask(SIG_SETMASK, &mask_, nullptr);
  }
  OddSignals(const OddSignals&) = delete;
  OddSignals& operator=(const OddSignals&) = delete;

 private:
  sigset_t mask_{};
  void (*before_)(int) = nullptr;
};

}  // namespace

TEST_CASE("a boot's name is a UUID") {
  CHECK(current_boot_id().size() == 36);
  CHECK(current_boot_id() == current_boot_id());
}

TEST_CASE("a VMM starts in a session of its own, with default signals and nothing of ours") {
  const RunFolder run;
  const Fd stray(::open("/dev/null", O_RDONLY));  // not O_CLOEXEC
  const OddSignals odd;
  ::setenv("HUM_TEST_SECRET", "1", 1);
  const std::string temporary = fs::temp_directory_path();
  ::setenv("TMPDIR", temporary.c_str(), 1);

  const VmmProcess process = run.start({sleeper, "100"});

  ::unsetenv("HUM_TEST_SECRET");
  CHECK(::getsid(process.identity().pid) == process.identity().pid);
  CHECK(link_of(process, "cwd") == "/");
  CHECK(link_of(process, "fd/0") == "/dev/null");
  CHECK(link_of(process, "fd/1") == "/dev/null");
  CHECK(link_of(process, "fd/2") == run.log());
  CHECK(link_of(process, "fd/3") == run.lock());
  CHECK(has_descriptors(process, 4));
  const std::string status = proc_file(process, "status");
  CHECK(status.find("SigBlk:\t0000000000000000") != std::string::npos);
  constexpr std::uint64_t of_the_c_library = 0x180000000;  // 32 and 33
  CHECK((std::stoull(status.substr(status.find("SigIgn:") + 7), nullptr, 16) & ~of_the_c_library) == 0);
  std::string environment;  // which the kernel shows a moment after the program has begun
  REQUIRE(until([&] { return !(environment = proc_file(process, "environ")).empty(); }));
  CHECK(environment.find("PATH=") != std::string::npos);
  CHECK(environment.find("TMPDIR=" + temporary) != std::string::npos);
  CHECK(environment.find("HUM_TEST_SECRET") == std::string::npos);
}

TEST_CASE("what a VMM writes to its standard error is added to its log") {
  const RunFolder run;
  put_file(run.log(), "before\n");
  const VmmProcess process = run.start({shell, "-c", "echo lost; echo kept >&2"});
  CHECK(exit_code(process) == 0);
  CHECK(file_content(run.log()) == "before\nkept\n");
}

TEST_CASE("a VMM gets descriptors by the numbers that were asked for, even where they change places") {
  const RunFolder run;
  put_file(run / "one", "");
  put_file(run / "two", "");
  const Fd one = moved(open_file(run / "one", O_RDONLY), 300);
  const Fd between(::fcntl(one.get(), F_DUPFD, one.get()));  // which nobody asked for
  const Fd two = moved(open_file(run / "two", O_RDONLY), between.get());
  const Fd output = open_file(run / "output", O_WRONLY | O_CREAT, 0600);
  REQUIRE(one.get() == 300);
  REQUIRE(two.get() == 302);

  const VmmProcess process =
      run.start({sleeper, "100"}, {{one.get(), two.get()}, {two.get(), one.get()}, {output.get(), 1}});

  CHECK(link_of(process, "fd/" + std::to_string(two.get())) == run / "one");
  CHECK(link_of(process, "fd/" + std::to_string(one.get())) == run / "two");
  CHECK(link_of(process, "fd/1") == run / "output");
  CHECK(has_descriptors(process, 6));
}

TEST_CASE("a child's exit code is told once it has ended, and once only") {
  const RunFolder run;
  const VmmProcess living = run.start({sleeper, "100"});
  CHECK_FALSE(living.ended());
  CHECK_FALSE(living.reap());
  living.signal(SIGKILL);
  CHECK(exit_code(living) == 128 + SIGKILL);
  CHECK_FALSE(living.reap());

  CHECK(exit_code(run.start({shell, "-c", "exit 7"})) == 7);
}

TEST_CASE(
    "what a process uses of the host is told as long as it lives: processor time that grows, and memory") {
  const RunFolder run;
  const VmmProcess process = run.start({shell, "-c", "while :; do :; done"});
  std::optional<ProcessUse> use = process.use();
  REQUIRE(use);
  const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (use && use->cpu_seconds < 0.1 && std::chrono::steady_clock::now() < late) use = process.use();
  REQUIRE(use);
  CHECK(use->cpu_seconds >= 0.1);
  CHECK(use->resident_bytes >= 4096);
  CHECK(use->resident_bytes < 64U << 20U);
  process.signal(SIGKILL);
  CHECK(exit_code(process) == 128 + SIGKILL);
  CHECK_FALSE(process.use());
}

TEST_CASE("a program that cannot be started is an error, and neither a process nor the lock stays") {
  const RunFolder run;
  CHECK_THROWS_AS(run.start({run / "none"}), HostError);
  put_file(run / "text", "no program");
  CHECK_THROWS_AS(run.start({run / "text"}), HostError);
  CHECK(children().empty());
  CHECK(is_free(run.lock()));
}

TEST_CASE("a log that is somebody else's file is not written to") {
  const RunFolder run;
  put_file(run / "other", "");
  fs::create_symlink(run / "other", run.log());
  CHECK_THROWS_AS(run.start({shell, "-c", "echo no >&2"}), HostError);
  fs::remove(run.log());
  REQUIRE(::mkfifo(run.log().c_str(), 0600) == 0);
  const Fd reader = open_file(run.log(), O_RDONLY | O_NONBLOCK);
  CHECK_THROWS_AS(run.start({shell, "-c", "echo no >&2"}), HostError);
  CHECK(children().empty());
  CHECK(file_content(run / "other").empty());
}

TEST_CASE("whichever descriptor cannot be had at a spawn, no process is left") {
  const RunFolder run;
  const std::optional<RunLock> lock = RunLock::take(run.lock());
  REQUIRE(lock);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  bool refused_after_spawn = false;
  bool started = false;
  for (rlim_t most = 4; most < 256 && !started; ++most) {
    const rlimit few{most, before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &few);
    std::string refusal;
    try {
      spawn({.arguments = {sleeper, "100"}, .lock_fd = lock->fd(), .log_path = run.log()});
      started = true;
    } catch (const HostError& error) {
      refusal = error.what();
    }
    ::setrlimit(RLIMIT_NOFILE, &before);
    CHECK(children().size() == (started ? 1 : 0));
    refused_after_spawn = refused_after_spawn || refusal.find("watch process") != std::string::npos;
  }
  CHECK(started);
  CHECK(refused_after_spawn);
}

TEST_CASE("a process is adopted by what tells it from all others, and by nothing less") {
  const RunFolder run;
  const VmmProcess process = run.start({sleeper, "100"});
  const ProcessIdentity identity = process.identity();
  CHECK(identity.boot_id == current_boot_id());

  const auto adopted = VmmProcess::adopt(identity, sleeper);
  REQUIRE(adopted);
  CHECK(adopted->identity() == identity);
  CHECK_FALSE(adopted->ended());

  auto other = identity;
  SECTION("a number that was used again has a later start") {
    --other.start_time;
  }
  SECTION("nor is one adopted that began before") {
    ++other.start_time;
  }
  SECTION("no start is known") {
    other.start_time = 0;
  }
  SECTION("the host was booted since") {
    other.boot_id.front() = other.boot_id.front() == '0' ? '1' : '0';
  }
  SECTION("no boot is known") {
    other.boot_id.clear();
  }
  SECTION("it is another process") {
    other.pid = ::getpid();
  }
  SECTION("there is no such process") {
    other.pid = INT_MAX;
  }
  SECTION("the first process") {
    other.pid = 1;
  }
  SECTION("a group") {
    other.pid = -identity.pid;
  }
  SECTION("one's own group") {
    other.pid = 0;
  }
  CHECK_FALSE(VmmProcess::adopt(other, sleeper));
  CHECK_FALSE(process.ended());
}

TEST_CASE("a process of another program is not adopted, even by its right number and start") {
  const RunFolder run;
  const ProcessIdentity identity = run.start({sleeper, "100"}).identity();
  CHECK_FALSE(VmmProcess::adopt(identity, shell));
  CHECK_FALSE(VmmProcess::adopt(identity, sleeper + "y"));
  CHECK_FALSE(VmmProcess::adopt(identity, ""));
  CHECK(VmmProcess::adopt(identity, sleeper));
}

TEST_CASE("a zombie is not adopted, nor what was reaped") {
  const RunFolder run;
  const VmmProcess process = run.start({sleeper, "100"});
  process.signal(SIGKILL);
  REQUIRE(until([&] { return process.ended(); }));
  REQUIRE(proc_file(process, "stat").find(") Z ") != std::string::npos);
  CHECK_FALSE(VmmProcess::adopt(process.identity(), sleeper));
  REQUIRE(process.reap());
  CHECK_FALSE(VmmProcess::adopt(process.identity(), sleeper));
  CHECK(process.ended());
}

TEST_CASE("a thread is no process to adopt") {
  const RunFolder run;
  pid_t number = 0;
  std::atomic<bool> done = false;
  std::thread thread([&] {
    number = ::gettid();
    done = true;
    while (done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  REQUIRE(until([&] { return done.load(); }));
  const std::string stat = file_content("/proc/" + std::to_string(number) + "/stat");
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  const ProcessIdentity identity{number, std::stoull(field), current_boot_id()};
  CHECK_FALSE(VmmProcess::adopt(identity, fs::read_symlink("/proc/self/exe")));
  done = false;
  thread.join();
}

TEST_CASE("a VMM is adopted after an upgrade has put another program in the place of its own") {
  const RunFolder run;
  const std::string program = run / "vmm";
  fs::copy_file(HUM_FAKE_VMM, program);
  std::vector<std::string> arguments = run.fake();
  arguments.front() = program;
  const ProcessIdentity identity = run.start(arguments).identity();

  fs::copy_file(HUM_FAKE_VMM, run / "new");
  fs::rename(run / "new", program);
  CHECK(VmmProcess::adopt(identity, program));
  CHECK(find_holder(run.lock(), program) == identity);
  fs::remove(program);
  CHECK(VmmProcess::adopt(identity, program));
}

TEST_CASE("a VMM that was started by a link is adopted by that link, and by its program's own path") {
  const RunFolder run;
  fs::create_symlink(HUM_FAKE_VMM, run / "link");
  std::vector<std::string> arguments = run.fake();
  arguments.front() = run / "link";
  const ProcessIdentity identity = run.start(arguments).identity();
  CHECK(VmmProcess::adopt(identity, run / "link"));
  CHECK(VmmProcess::adopt(identity, fs::canonical(HUM_FAKE_VMM)));
}

TEST_CASE("a signal to a process that has gone reaches nobody and is no error") {
  const RunFolder run;
  const VmmProcess process = run.start({sleeper, "100"});
  const auto adopted = VmmProcess::adopt(process.identity(), sleeper);
  REQUIRE(adopted);
  adopted->signal(SIGTERM);
  CHECK(exit_code(process) == 128 + SIGTERM);
  CHECK_NOTHROW(process.signal(SIGKILL));
  CHECK_NOTHROW(adopted->signal(SIGKILL));
}

TEST_CASE("a signal that does not exist is an error") {
  const RunFolder run;
  CHECK_THROWS_AS(run.start({sleeper, "100"}).signal(1000), HostError);
}

TEST_CASE("a run folder's lock is one VMM's, until that has ended") {
  const RunFolder run;
  {
    const auto lock = RunLock::take(run.lock());
    REQUIRE(lock);
    CHECK_FALSE(is_free(run.lock()));
  }
  CHECK(is_free(run.lock()));
  const VmmProcess process = run.start({sleeper, "100"});
  CHECK_FALSE(is_free(run.lock()));
  process.signal(SIGKILL);
  REQUIRE(until([&] { return process.ended(); }));
  CHECK(is_free(run.lock()));
}

TEST_CASE("what is no plain file is not taken for a lock, and a folder that is not there is an error") {
  const RunFolder run;
  put_file(run / "other", "");
  fs::create_symlink(run / "other", run / "link");
  REQUIRE(::mkfifo((run / "fifo").c_str(), 0600) == 0);
  for (const char* const name : {"link", "fifo", ".", "none/lock"}) {
    INFO(name);
    CHECK_THROWS_AS(RunLock::take(run / name), HostError);
  }
}

TEST_CASE("a VMM whose starter was killed before it wrote anything down is found again") {
  const RunFolder run;
  const bool has_record = GENERATE(true, false);
  std::vector<std::string> arguments = run.fake();
  if (!has_record) arguments[7] = "--not-a-record";
  REQUIRE(arguments[8] == run.record());
  const pid_t starter = ::fork();
  if (starter == 0) {
    run.start(arguments);
    ::raise(SIGKILL);
  }
  int status = 0;
  REQUIRE(::waitpid(starter, &status, 0) == starter);
  REQUIRE(WIFSIGNALED(status));

  CHECK_FALSE(is_free(run.lock()));
  std::optional<ProcessIdentity> identity = find_holder(run.lock(), HUM_FAKE_VMM);
  REQUIRE(identity);
  CHECK(children() == std::vector<pid_t>{identity->pid});
  if (has_record) {
    REQUIRE(until([&] { return identity_in_record(run.record()).has_value(); }));
    auto written = identity_in_record(run.record());
    CHECK_FALSE(VmmProcess::adopt(*written, HUM_FAKE_VMM));  // of which boot is not said
    written->boot_id = current_boot_id();
    CHECK(written == identity);
  }
  const auto process = VmmProcess::adopt(*identity, HUM_FAKE_VMM);
  REQUIRE(process);
  REQUIRE(until([&] { return ::access(run.socket().c_str(), F_OK) == 0; }));
  process->signal(SIGTERM);
  REQUIRE(until([&] { return process->ended(); }));
  CHECK(is_free(run.lock()));
  CHECK_FALSE(find_holder(run.lock(), HUM_FAKE_VMM));
  if (has_record) CHECK(end_in_record(run.record())->cause == "signal");
}

TEST_CASE("what became of a process that is not ours is not told by reaping it") {
  const RunFolder run;
  const VmmProcess process = run.start({sleeper, "100"});
  const pid_t stranger = ::fork();
  if (stranger == 0) {
    const auto adopted = VmmProcess::adopt(process.identity(), sleeper);
    if (!adopted) ::_exit(1);
    adopted->signal(SIGKILL);
    const bool right = until([&] { return adopted->ended(); }) && !adopted->reap();
    ::_exit(right ? 0 : 2);
  }
  int status = -1;
  REQUIRE(::waitpid(stranger, &status, 0) == stranger);
  CHECK(status == 0);
  CHECK(process.reap() == 128 + SIGKILL);
}

TEST_CASE("who merely has a lock's file open, or runs another program, does not hold a VM's lock") {
  const RunFolder run;
  const RunFolder other;
  const auto ours = RunLock::take(other.lock());
  REQUIRE(ours);
  const Fd open = open_file(other.lock(), O_RDWR);
  const ProcessIdentity identity = run.start(run.fake(), {{open.get(), 7}}).identity();

  CHECK(find_holder(run.lock(), HUM_FAKE_VMM) == identity);
  CHECK_FALSE(find_holder(run.lock(), sleeper));
  CHECK_FALSE(find_holder(other.lock(), HUM_FAKE_VMM));                        // which has it open
  CHECK_FALSE(find_holder(other.lock(), fs::read_symlink("/proc/self/exe")));  // which is this process
  CHECK_FALSE(find_holder(run / "none", HUM_FAKE_VMM));
}

}  // namespace hum
