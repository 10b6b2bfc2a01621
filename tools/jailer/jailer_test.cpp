// SPDX-License-Identifier: Apache-2.0
// The program as clients use it, with hum-vmm in the jail. As root only.
#include "tools/jailer/jailer.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tools/hum-vmm/testing.h"
#include "tools/jailer/jail.h"
#include "tools/jailer/jailer_testing.h"
#include "vmm/base/errors.h"
#include "vmm/base/testing.h"

namespace hum {

using nlohmann::json;
using namespace testing;
namespace {

// A jailer that refuses when all is made. This is done before each system call of that number, and then
// before each call. Skipped where this process may not trace its child.
void refuse_traced(
    const Jailer& jailer, std::uint64_t call, const std::function<void()>& before,
    const std::function<void()>& look = [] {}) {
  std::vector<std::string> words = jailer.words({"--resource-limit", "no-file=99999999999"}, {});
  std::vector<char*> pointers;
  for (std::string& each : words) pointers.push_back(each.data());
  pointers.push_back(nullptr);
  constexpr int not_traced = 99;
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(STDERR_FILENO);
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0) ::execv(pointers.front(), pointers.data());
    ::_exit(not_traced);
  }
  int status = 0;
  bool enters = false;  // each call stops twice, and execve once before them
  bool was_made = false;
  while (::waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
    user_regs_struct registers{};
    ::ptrace(PTRACE_GETREGS, child, nullptr, &registers);
    if (enters && registers.orig_rax == call) {
      before();
      was_made = true;
    }
    look();
    enters = !enters;
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == not_traced) {
    WARN("skipped: this test may not trace its own child");
    return;
  }
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 1));
  CHECK(was_made);
}

}  // namespace

TEST_CASE("a VM from a config file runs in a jail, and its exit code and output are the jailer's") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  jailer.put_vm("exit_code", "exit=7");
  Child child = jailer.start({}, {"--no-api", "--config-file", "/vm.json"});
  CHECK(end_of(child) == ProcessEnd{ProcessEnd::By::exit, 7});
  CHECK(text_of(child.output()) == "exit 7\r\n");
}

TEST_CASE("a jailed VM has a user, a root, devices and limits of its own, and is driven through run/") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  jailer.put_vm("hang", "method=busy");
  Child child = jailer.start({"--resource-limit", "fsize=12345678", "--resource-limit", "no-file=321"}, {});
  const std::string socket = jailer.root() + "/run/firecracker.socket";
  REQUIRE(until([&] { return fs::exists(socket); }));
  const pid_t pid = std::stoi(content_of(jailer.root() + "/firecracker.pid"));

  CHECK(line_of(of_process(pid, "status"), "Uid:") == "\t61234\t61234\t61234\t61234");
  CHECK(line_of(of_process(pid, "status"), "Gid:") == "\t61235\t61235\t61235\t61235");
  CHECK(line_of(of_process(pid, "status"), "Groups:") == "\t ");
  CHECK(line_of(of_process(pid, "status"), "CapPrm:") == "\t0000000000000000");
  CHECK(fs::read_symlink(of_process(pid, "ns/mnt")) != fs::read_symlink("/proc/self/ns/mnt"));
  CHECK(fs::read_symlink(of_process(pid, "ns/pid")) == fs::read_symlink("/proc/self/ns/pid"));
  CHECK(fs::equivalent(of_process(pid, "root/"), jailer.root()));
  CHECK(content_of(of_process(pid, "environ")).empty());
  CHECK(has(line_of(of_process(pid, "limits"), "Max file size"), " 12345678 "));
  CHECK(has(line_of(of_process(pid, "limits"), "Max open files"), " 321 "));
  // Nothing of the host is mounted in it but the jail.
  const std::string mounts = content_of(of_process(pid, "mounts"));
  CHECK(std::count(mounts.begin(), mounts.end(), '\n') == 1);

  for (const auto& [name, type, mode, number] : {std::tuple("/", S_IFDIR, 0700, dev_t{0}),
                                                 {"/dev", S_IFDIR, 0700, 0},
                                                 {"/dev/net", S_IFDIR, 0700, 0},
                                                 {"/run", S_IFDIR, 0700, 0},
                                                 {"/firecracker", S_IFREG, 0500, 0},
                                                 {"/dev/kvm", S_IFCHR, 0600, dev_t{0xae8}},
                                                 {"/dev/net/tun", S_IFCHR, 0600, dev_t{0xac8}},
                                                 {"/dev/urandom", S_IFCHR, 0600, dev_t{0x109}}}) {
    struct stat status{};
    INFO(name);
    REQUIRE(::lstat((jailer.root() + name).c_str(), &status) == 0);
    CHECK(status.st_mode == static_cast<mode_t>(type | mode));
    CHECK(status.st_uid == user);
    CHECK(status.st_gid == group);
    if (number != 0) CHECK(status.st_rdev == number);
  }
  CHECK_FALSE(fs::is_symlink(jailer.root() + "/firecracker"));

  ApiClient client(socket);
  CHECK(json::parse(client.call("GET", "/")->body)["id"] == "vm1");
  const auto put = [&](const char* path, const json& body) {
    return client.call("PUT", path, body.dump())->status;
  };
  CHECK(put("/boot-source", {{"kernel_image_path", "/kernel"}, {"boot_args", "method=busy"}}) == 204);
  CHECK(put("/boot-source", {{"kernel_image_path", HUM_VMM_PROGRAM}}) == 400);
  CHECK(put("/actions", {{"action_type", "InstanceStart"}}) == 204);
  CHECK(json::parse(client.call("GET", "/")->body)["state"] == "Running");
  ::kill(pid, SIGTERM);
  CHECK(end_of(child) == ProcessEnd{ProcessEnd::By::signal, SIGTERM});
}

TEST_CASE("a jailed VM has no capability that the jailer's starter passes on") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  constexpr unsigned capability = CAP_NET_RAW;
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  REQUIRE(::syscall(SYS_capget, &header, sets.data()) == 0);
  const auto before = sets;
  sets[0].inheritable |= 1u << capability;
  REQUIRE(::syscall(SYS_capset, &header, sets.data()) == 0);
  REQUIRE(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) == 0);
  Child child = jailer.start({}, {});
  // Without an inheritable capability there is no ambient one.
  sets = before;
  REQUIRE(::syscall(SYS_capset, &header, sets.data()) == 0);
  REQUIRE(until([&] { return fs::exists(jailer.root() + "/run/firecracker.socket"); }));
  const std::string status = of_process(std::stoi(content_of(jailer.root() + "/firecracker.pid")), "status");
  for (const char* const set : {"CapInh:", "CapPrm:", "CapEff:", "CapAmb:"})
    CHECK(line_of(status, set) == "\t0000000000000000");
  child.kill();
  end_of(child);
}

TEST_CASE("a VM in a pid namespace, a session and a network namespace of its own outlives the jailer") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  // A network namespace with a name, as 'ip netns add' makes it.
  std::ofstream(jailer.folder / "netns");
  const std::string netns = jailer.folder / "netns";
  int status = 0;
  const pid_t maker = ::fork();
  if (maker == 0)
    ::_exit(::unshare(CLONE_NEWNET) == 0 &&
                    ::mount("/proc/self/ns/net", netns.c_str(), nullptr, MS_BIND, nullptr) == 0
                ? 0
                : 1);
  ::waitpid(maker, &status, 0);
  REQUIRE(status == 0);
  struct stat namespace_file{};
  ::stat(netns.c_str(), &namespace_file);

  jailer.put_vm("hang", "method=busy");
  Child child = jailer.start({"--new-pid-ns", "--daemonize", "--netns", netns},
                             {"--config-file", "/vm.json", "--api-sock", "/run/api.socket"});
  CHECK(end_of(child) == ProcessEnd{ProcessEnd::By::exit, 0});
  ::umount2(netns.c_str(), MNT_DETACH);
  CHECK(text_of(child.messages()).empty());
  const Stranger vmm(std::stoi(content_of(jailer.root() + "/firecracker.pid")));
  const std::string socket = jailer.root() + "/run/api.socket";
  REQUIRE(until([&] { return ApiClient(socket).connected(); }));
  CHECK(line_of(of_process(vmm.pid(), "status"), "NSpid:") == "\t" + std::to_string(vmm.pid()) + "\t1");
  CHECK(fs::read_symlink(of_process(vmm.pid(), "ns/pid")) != fs::read_symlink("/proc/self/ns/pid"));
  struct stat own_namespace{};
  ::stat(of_process(vmm.pid(), "ns/net").c_str(), &own_namespace);
  CHECK(own_namespace.st_ino == namespace_file.st_ino);
  CHECK(::getsid(vmm.pid()) == vmm.pid());
  CHECK(line_of(of_process(vmm.pid(), "status"), "Uid:") == "\t61234\t61234\t61234\t61234");
  for (const char* const stream : {"fd/0", "fd/1", "fd/2"})
    CHECK(fs::read_symlink(of_process(vmm.pid(), stream)) == "/dev/null");
  CHECK(json::parse(ApiClient(socket).call("GET", "/")->body)["state"] == "Running");
  vmm.signal(SIGTERM);
  CHECK(vmm.ended());
}

TEST_CASE("each of --daemonize and --new-pid-ns alone leaves a running VM and its number") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  const std::string flag = GENERATE("--daemonize", "--new-pid-ns");
  jailer.put_vm("hang", "method=busy");
  // Somebody reads its output, or else it would hold this test's pipe.
  Child child = jailer.start({flag}, {});
  CHECK(end_of(child) == ProcessEnd{ProcessEnd::By::exit, 0});
  const Stranger vmm(std::stoi(content_of(jailer.root() + "/firecracker.pid")));
  CHECK(until([&] { return ApiClient(jailer.root() + "/run/firecracker.socket").connected(); }));
  const bool own_namespace =
      fs::read_symlink(of_process(vmm.pid(), "ns/pid")) != fs::read_symlink("/proc/self/ns/pid");
  CHECK(own_namespace == (flag == "--new-pid-ns"));
  CHECK((::getsid(vmm.pid()) == vmm.pid()) == (flag == "--daemonize"));
}

TEST_CASE("a jail that is refused leaves nothing behind") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  std::ofstream(jailer.folder / "no-program") << "#!/bin/sh\n";
  fs::create_symlink("/bin/sh", jailer.folder / "dynamic");
  const std::string other = GENERATE("", "there");
  if (!other.empty()) jailer.put("disk", "1");
  const auto before = tree(jailer.folder / "jails");
  const auto refused = [&](const std::vector<std::string>& own, const std::string& word) {
    INFO(word);
    CHECK(has(refusal(jailer, own), word));
    CHECK(tree(jailer.folder / "jails") == before);
  };
  refused({"--netns", "/no/such/file"}, "/no/such/file");
  refused({"--netns", "/dev/null"}, "is no network namespace");
  refused({"--netns", "/proc/self/ns/mnt"}, "is no network namespace");
  refused({"--cgroup", "nothing.here=1"}, "'nothing'");
  // Limits are set last, when all is made.
  refused({"--resource-limit", "no-file=99999999999"}, "no-file");
  refused({"--resource-limit", "no-file=99999999999", "--new-pid-ns"}, "no-file");
  refused({"--resource-limit", "no-file=99999999999", "--daemonize"}, "no-file");
}

TEST_CASE("programs that a jail could not run, and folders that could not be one, are refused") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  std::ofstream(jailer.folder / "script") << "#!/bin/sh\n";
  fs::create_symlink("/bin/sh", jailer.folder / "dynamic");
  const auto refused = [&](std::size_t at, const std::string& value, const std::string& word) {
    std::vector<std::string> words = jailer.words({}, {});
    words[at] = value;
    Child child(HUM_JAILER_PROGRAM, words, {});
    INFO(value);
    CHECK(end_of(child) == ProcessEnd{ProcessEnd::By::exit, 1});
    CHECK(has(text_of(child.messages()), word));
    CHECK(tree(jailer.folder / "jails").empty());
  };
  refused(4, jailer.folder / "script", "is no program for this processor");
  refused(4, jailer.folder / "dynamic", "needs libraries");
  refused(4, jailer.folder / "jails", "is no file");
  refused(4, "/no/such/file", "/no/such/file");
  refused(6, "/no/such/folder", "--chroot-base-dir '/no/such/folder'");
  refused(6, jailer.folder / "script", "script");
  const std::string no_devices = jailer.folder / "no-devices";
  fs::create_directory(no_devices);
  REQUIRE(::mount("none", no_devices.c_str(), "tmpfs", MS_NODEV, nullptr) == 0);
  refused(6, no_devices, "is mounted with nodev");
  CHECK(tree(no_devices).empty());
  ::umount(no_devices.c_str());
}

// As Kata has it below /run.
TEST_CASE("a jail may be a mount of its own with devices, on a base that has none") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  const std::string base = jailer.folder / "jails";
  REQUIRE(::mount("none", base.c_str(), "tmpfs", MS_NODEV | MS_NOEXEC, nullptr) == 0);
  const std::string root = jailer.root();
  fs::create_directories(root);
  const bool mounted = ::mount(root.c_str(), root.c_str(), nullptr, MS_BIND, nullptr) == 0 &&
                       ::mount(nullptr, root.c_str(), nullptr, MS_BIND | MS_REMOUNT, nullptr) == 0;
  if (mounted) {
    jailer.put_vm("exit_code", "exit=7");
    Child child = jailer.start({}, {"--no-api", "--config-file", "/vm.json"});
    CHECK(end_of(child) == ProcessEnd{ProcessEnd::By::exit, 7});
    ::umount2(root.c_str(), MNT_DETACH);
  }
  ::umount2(base.c_str(), MNT_DETACH);
  CHECK(mounted);
}

TEST_CASE("the owners of folders that were there before are as they were where a jail is refused") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  const std::vector<std::string> folders = {jailer.root(), jailer.root() + "/dev", jailer.root() + "/run"};
  for (const std::string& each : folders) {
    fs::create_directories(each);
    REQUIRE(::chown(each.c_str(), user + 1, group + 1) == 0);
    REQUIRE(::chmod(each.c_str(), 0751) == 0);
  }
  CHECK(has(refusal(jailer, {"--resource-limit", "no-file=99999999999"}), "no-file"));
  for (const std::string& each : folders) {
    struct stat status{};
    REQUIRE(::stat(each.c_str(), &status) == 0);
    CHECK(status.st_uid == user + 1);
    CHECK(status.st_gid == group + 1);
    CHECK(status.st_mode == (S_IFDIR | 0751));
  }
}

TEST_CASE("the user of a jail cannot have another file given to it in the place of a device") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  const std::string root = jailer.root();
  const std::string dev = root + "/dev";
  const std::string shared = jailer.folder / "shared";  // a kernel for several VMs, linked into each jail
  std::ofstream{shared};
  fs::create_directories(dev);
  fs::create_hard_link(shared, root + "/kernel");
  for (const std::string& each : {root, dev}) REQUIRE(::chown(each.c_str(), user, group) == 0);
  const Fd outer(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Fd inner(::open(dev.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  refuse_traced(jailer, SYS_fchownat, [&] {
    const pid_t attacker = ::fork();
    if (attacker == 0) {
      if (::setresgid(group, group, group) == 0 && ::setresuid(user, user, user) == 0)
        ::renameat(outer.get(), "kernel", inner.get(), "kvm");
      ::_exit(0);
    }
    ::waitpid(attacker, nullptr, 0);
  });
  struct stat status{};
  REQUIRE(::stat(shared.c_str(), &status) == 0);
  CHECK(status.st_uid == 0);
}

TEST_CASE("nothing is done elsewhere where the owner of a folder above a jail puts a link in its place") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  const std::string elsewhere = jailer.folder / "elsewhere";
  fs::create_directory(elsewhere);
  struct stat before{};
  REQUIRE(::stat(elsewhere.c_str(), &before) == 0);
  bool made = false;  // something, or has another owner
  refuse_traced(
      jailer, SYS_unshare,
      [&] {
        fs::rename(jailer.root(), jailer.root() + "-away");
        fs::create_directory_symlink(elsewhere, jailer.root());
      },
      [&] {
        struct stat now{};
        made = made || !fs::is_empty(elsewhere) || ::stat(elsewhere.c_str(), &now) != 0 ||
               now.st_uid != before.st_uid || now.st_mode != before.st_mode;
      });
  CHECK_FALSE(made);
}

TEST_CASE("a jail that was used already, or is a link to elsewhere, is not used again") {
  const Jailer jailer;
  if (no_jails(jailer.folder)) return;
  fs::create_directory(jailer.folder / "elsewhere");
  SECTION("an executable") {
    jailer.put("firecracker", "");
    CHECK(has(refusal(jailer, {}), "there is a jail of that name"));
  }
  SECTION("a process number") {
    jailer.put("firecracker.pid", "1");
    CHECK(has(refusal(jailer, {}), "firecracker.pid"));
    CHECK(content_of(jailer.root() + "/firecracker.pid") == "1");
    CHECK(tree(jailer.root()) == std::vector<std::string>{"firecracker.pid"});
  }
  SECTION("a device") {
    fs::create_directories(jailer.root() + "/dev");
    jailer.put("dev/kvm", "");
    CHECK(has(refusal(jailer, {}), "kvm"));
    CHECK(tree(jailer.root()) == std::vector<std::string>{"dev", "dev/kvm"});
  }
  SECTION("a link in place of the jail") {
    fs::create_directories(jailer.folder / "jails/firecracker/vm1");
    fs::create_directory_symlink(jailer.folder / "elsewhere", jailer.root());
    CHECK(has(refusal(jailer, {}), "'root'"));
  }
  SECTION("a link in place of a folder of it") {
    fs::create_directories(jailer.root());
    fs::create_directory_symlink("/run", jailer.root() + "/dev");
    CHECK(has(refusal(jailer, {}), "'dev'"));
  }
  CHECK(tree(jailer.folder / "elsewhere").empty());
}

TEST_CASE("without root a jailer says so") {
  const Jailer jailer;
  int status = 0;
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && ::setresuid(user, user, user) != 0) ::_exit(2);
    std::vector<std::string> words = jailer.words({}, {});
    words.erase(words.begin());
    try {
      run_jailed(*parse_jailer_arguments(words), JailerStart::now());
    } catch (const HostError& error) {
      ::_exit(error.code().value() == EPERM && has(error.what(), "as root") ? 0 : 3);
    }
    ::_exit(4);
  }
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
}

TEST_CASE("a jailer's version has a first line like Firecracker's") {
  Child child(HUM_JAILER_PROGRAM, {HUM_JAILER_PROGRAM, "--version"}, {});
  CHECK(end_of(child) == ProcessEnd{ProcessEnd::By::exit, 0});
  CHECK(text_of(child.output()).find("Jailer v1.14.0\n") == 0);
}

}  // namespace hum
