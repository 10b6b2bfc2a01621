// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/host_checks.h"

#include <cerrno>
#include <map>

#include "tools/hum/doctor/testing.h"

namespace hum::doctor {
namespace {

using test::contains;
using test::FakeRoot;
using test::find_check;
using State = Check::State;

// A host on which all is well, and each test spoils one thing.
struct Bench {
  FakeRoot root;
  KvmReport kvm;
  std::map<std::string, int> device_errors;
  std::map<int, rlimit> limits;
  Host host;

  Bench() {
    kvm.api_version = 12;
    for (const KvmCapability& each : used_capabilities()) kvm.capabilities.push_back(each.least);
    kvm.supervisor_nanoseconds = 0.5;
    root.write("proc/cpuinfo", "processor\t: 0\nmicrocode\t: 0x42\nflags\t\t: fpu vmx sse\n\n");
    root.write("sys/module/kvm_intel/parameters/nested", "Y\n");
    root.write("sys/devices/system/cpu/vulnerabilities/mds", "Not affected\n");
    root.write("sys/devices/system/cpu/vulnerabilities/l1tf", "Mitigation: PTE Inversion\n");
    root.write("sys/devices/system/cpu/smt/active", "0\n");
    root.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
    root.write("proc/meminfo", "MemTotal:       2097152 kB\nMemAvailable:    1048576 kB\n");
    for (const char* size : {"2048", "1048576"}) {
      const std::string folder = "sys/kernel/mm/hugepages/hugepages-" + std::string(size) + "kB/";
      root.write(folder + "nr_hugepages", "8\n");
      root.write(folder + "free_hugepages", "4\n");
    }
    root.write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    root.write("proc/sys/vm/overcommit_memory", "0\n");
    root.write("proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
    root.write("proc/self/cgroup", "0::/mine\n");
    root.write("sys/fs/cgroup/mine/cgroup.controllers", "cpu io memory pids\n");
    root.write("proc/sys/kernel/pid_max", "4194304\n");
    root.write("proc/thread-self/net/route",
               "Iface Destination Gateway Flags RefCnt Use Metric Mask\n"
               "eth0 00000000 0100090A 0003 0 0 0 00000000 0 0 0\n");
    for (const char* name : {"passt", "qemu-system-x86_64", "dnsmasq", "nft"}) {
      const std::string path = root.write("usr/bin/" + std::string(name), "");
      std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    }
    host.root = root.path();
    host.program_path = "relative:/usr/bin";
    host.examine_kvm = [this] { return kvm; };
    host.open_device = [this](const std::string& path) {
      return device_errors[path.substr(root.path().size())];
    };
    host.write_access = [](const std::string&) { return 0; };
    host.io_uring_setup = [] { return 0; };
    host.landlock_abi = [] { return 4; };
    host.seccomp_filter = [] { return 0; };
    host.user_namespace = [] { return 0; };
    host.limit = [this](int resource) {
      const auto found = limits.find(resource);
      return found == limits.end() ? rlimit{RLIM_INFINITY, RLIM_INFINITY} : found->second;
    };
  }

  Check check(const std::string& name) const { return find_check(host_checks(host), name); }
  void vulnerability(const std::string& name, const std::string& text) const {
    root.write("sys/devices/system/cpu/vulnerabilities/" + name, text);
  }
};

}  // namespace

TEST_CASE("on a host where all is well every check says yes") {
  const Bench bench;
  const std::vector<Check> checks = host_checks(bench.host);
  CHECK(checks.size() > 40);
  for (const Check& each : checks) {
    INFO(each.name << ": " << each.found);
    CHECK(each.state == State::yes);
    CHECK_FALSE(each.found.empty());
  }
  CHECK(exit_code_of(verdict_of(checks)) == 0);
}

TEST_CASE("on a host of which nothing can be read no check fails in another way than words") {
  Bench bench;
  bench.host.root += "/nothing";
  for (const Check& each : host_checks(bench.host)) CHECK_FALSE(each.found.empty());
}

TEST_CASE("without /dev/kvm no VM runs, and the fix suits the processor") {
  Bench bench;
  bench.kvm.open_error = ENOENT;
  CHECK(exit_code_of(verdict_of(host_checks(bench.host))) == 3);
  CHECK(bench.check("/dev/kvm").state == State::no);
  CHECK(bench.check("/dev/kvm").fix == "sudo modprobe kvm_intel");
  bench.root.write("proc/cpuinfo", "processor: 0\nflags : svm\n");
  CHECK(bench.check("/dev/kvm").fix == "sudo modprobe kvm_amd");
  bench.root.write("proc/cpuinfo", "processor: 0\nflags : hypervisor fpu\n");
  CHECK(contains(bench.check("/dev/kvm").fix, "nested"));
  bench.root.write("proc/cpuinfo", "processor: 0\nflags : fpu\n");
  CHECK(contains(bench.check("/dev/kvm").fix, "firmware"));
}

TEST_CASE("a /dev/kvm that is not permitted is told apart from one that is missing") {
  Bench bench;
  bench.kvm.open_error = EACCES;
  CHECK(contains(bench.check("/dev/kvm").found, "not permitted"));
  CHECK(contains(bench.check("/dev/kvm").fix, "usermod -aG kvm"));
  bench.kvm.open_error = EBUSY;
  CHECK(bench.check("/dev/kvm").state == State::no);
}

TEST_CASE("another version of KVM's API is of no use") {
  Bench bench;
  bench.kvm.api_version = 11;
  CHECK(bench.check("KVM's API").state == State::no);
  CHECK(verdict_of(host_checks(bench.host)) == Verdict::none);
}

TEST_CASE("each capability that is missing is named with what it costs") {
  for (std::size_t i = 0; i < used_capabilities().size(); ++i) {
    Bench bench;
    bench.kvm.capabilities[i] = 0;
    const KvmCapability& capability = used_capabilities()[i];
    const Check check = bench.check("KVM " + std::string(capability.name));
    CHECK(check.state == State::no);
    CHECK(check.costs == capability.costs);
    const bool required = capability.need == KvmCapability::Need::required;
    CHECK(verdict_of(host_checks(bench.host)) == (required ? Verdict::none : Verdict::good));
  }
}

TEST_CASE("fewer vCPUs than '--cpus' takes are a limit") {
  Bench bench;
  for (std::size_t i = 0; i < used_capabilities().size(); ++i)
    if (used_capabilities()[i].name == "vCPUs") bench.kvm.capabilities[i] = 63;
  CHECK(bench.check("KVM vCPUs").state == State::limited);
  CHECK(bench.check("KVM vCPUs").found == "63");
}

TEST_CASE("emulated kernel code is a limit that matters, at the same speed as 'hum probe' says") {
  Bench bench;
  CHECK(bench.check("kernel code").found == "native, 0.5 ns an instruction");
  bench.kvm.supervisor_nanoseconds = 0.04;
  CHECK(bench.check("kernel code").found == "native, less than 0.1 ns an instruction");
  bench.kvm.supervisor_nanoseconds = 59.9;
  CHECK(bench.check("kernel code").found == "native, 60 ns an instruction");
  CHECK(bench.check("kernel code").state == State::yes);
  bench.kvm.supervisor_nanoseconds = 60;
  CHECK(bench.check("kernel code").state == State::limited);
  CHECK(exit_code_of(verdict_of(host_checks(bench.host))) == 1);
  bench.kvm.problem = "cannot create a VM";
  CHECK(bench.check("kernel code").state == State::no);
  CHECK(contains(bench.check("kernel code").found, "cannot create a VM"));
  CHECK(exit_code_of(verdict_of(host_checks(bench.host))) == 3);
}

TEST_CASE("the module behind KVM and nesting are told") {
  Bench bench;
  CHECK(bench.check("KVM's module").found == "kvm_intel");
  bench.root.write("sys/module/kvm_intel/parameters/nested", "0");
  CHECK(bench.check("nested virtualization").state == State::no);
  bench.root.remove("sys/module/kvm_intel");
  CHECK(bench.check("KVM's module").state == State::unknown);
  CHECK(bench.check("nested virtualization").state == State::unknown);
  bench.root.write("sys/module/kvm_soft/parameters/x", "");
  CHECK(bench.check("KVM's module").state == State::limited);
}

TEST_CASE("each open vulnerability has a line of its own, and a mitigated one has none") {
  Bench bench;
  CHECK(bench.check("vulnerabilities").found == "2 kinds known to this Linux, 0 open");
  bench.vulnerability("mds", "Vulnerable: Clear CPU buffers attempted, no microcode");
  CHECK(bench.check("vulnerabilities").state == State::limited);
  CHECK(bench.check("vulnerability mds").state == State::limited);
  CHECK(contains(bench.check("vulnerability mds").costs, "other guests"));
  bench.root.remove("sys/devices/system/cpu/vulnerabilities");
  CHECK(bench.check("vulnerabilities").state == State::unknown);
}

TEST_CASE("old microcode and threads that leak are told") {
  Bench bench;
  CHECK(bench.check("microcode").found == "version 0x42");
  bench.vulnerability("old_microcode", "Vulnerable");
  CHECK(bench.check("microcode").state == State::no);
  bench.root.remove("sys/devices/system/cpu/vulnerabilities/old_microcode");
  bench.root.write("proc/cpuinfo", "processor : 0\n");
  CHECK(bench.check("microcode").state == State::unknown);

  bench.vulnerability("l1tf", "Mitigation: PTE Inversion; VMX: conditional cache flushes, SMT vulnerable");
  CHECK(bench.check("threads of a core").state == State::yes);
  bench.root.write("sys/devices/system/cpu/smt/active", "1");
  CHECK(bench.check("threads of a core").state == State::limited);
  bench.vulnerability("l1tf", "Mitigation: PTE Inversion; VMX: cache flushes, SMT disabled");
  CHECK(bench.check("threads of a core").state == State::yes);
}

TEST_CASE("a slow time source is a limit") {
  const Bench bench;
  const std::string file = "sys/devices/system/clocksource/clocksource0/current_clocksource";
  bench.root.write(file, "hpet");
  CHECK(bench.check("time source").state == State::limited);
  bench.root.write(file, "kvm-clock");
  CHECK(bench.check("time source").state == State::yes);
  bench.root.remove(file);
  CHECK(bench.check("time source").state == State::unknown);
}

TEST_CASE("each device file is told missing, not permitted or there") {
  Bench bench;
  for (const std::string name : {"/dev/net/tun", "/dev/vhost-net", "/dev/vhost-vsock"}) {
    bench.device_errors[name] = ENOENT;
    CHECK(bench.check(name).state == State::no);
    CHECK(contains(bench.check(name).fix, "modprobe"));
    bench.device_errors[name] = EACCES;
    CHECK(contains(bench.check(name).found, "there, but"));
    CHECK_FALSE(contains(bench.check(name).fix, "modprobe"));
  }
}

TEST_CASE("little free memory is a limit") {
  const Bench bench;
  CHECK(bench.check("free memory").found == "1G of 2G");
  bench.root.write("proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 524288 kB\n");
  CHECK(bench.check("free memory").state == State::yes);
  bench.root.write("proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 524287 kB\n");
  CHECK(bench.check("free memory").state == State::limited);
  bench.root.remove("proc/meminfo");
  CHECK(bench.check("free memory").state == State::unknown);
}

TEST_CASE("an empty pool of huge pages is a no, a used-up one a limit") {
  const Bench bench;
  for (const auto& [name, size] : {std::pair{"2M pages", "2048"}, std::pair{"1G pages", "1048576"}}) {
    const std::string folder = "sys/kernel/mm/hugepages/hugepages-" + std::string(size) + "kB/";
    CHECK(bench.check(name).found == "4 free of 8");
    bench.root.write(folder + "free_hugepages", "0");
    CHECK(bench.check(name).state == State::limited);
    bench.root.write(folder + "nr_hugepages", "0");
    CHECK(bench.check(name).state == State::no);
    bench.root.remove(folder);
    CHECK(bench.check(name).state == State::no);
  }
}

TEST_CASE("the modes of transparent huge pages and overcommit are told") {
  const Bench bench;
  const std::string pages = "sys/kernel/mm/transparent_hugepage/enabled";
  bench.root.write(pages, "always madvise [never]");
  CHECK(bench.check("transparent huge pages").state == State::no);
  bench.root.write(pages, "[always] madvise never");
  CHECK(bench.check("transparent huge pages").state == State::yes);
  bench.root.write(pages, "nonsense");
  CHECK(bench.check("transparent huge pages").state == State::unknown);
  bench.root.write("proc/sys/vm/overcommit_memory", "2");
  CHECK(bench.check("overcommit of memory").state == State::limited);
  bench.root.write("proc/sys/vm/overcommit_memory", "1");
  CHECK(bench.check("overcommit of memory").state == State::yes);
  bench.root.write("proc/sys/vm/overcommit_memory", "?");
  CHECK(bench.check("overcommit of memory").state == State::unknown);
}

TEST_CASE("control groups are told by version, controllers and permission") {
  Bench bench;
  bench.root.write("sys/fs/cgroup/mine/cgroup.controllers", "memory pids");
  CHECK(bench.check("control groups").state == State::limited);
  CHECK(contains(bench.check("control groups").fix, "Delegate"));
  bench.host.write_access = [](const std::string&) { return EACCES; };
  CHECK(contains(bench.check("control groups").found, "not ours"));
  bench.root.write("proc/mounts", "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n");
  CHECK(bench.check("control groups").found == "version 1 only");
  bench.root.write("proc/mounts", "");
  CHECK(bench.check("control groups").found == "none");
  CHECK(bench.check("control groups").state == State::no);
}

TEST_CASE("why io_uring is not usable decides the fix") {
  Bench bench;
  int error = EPERM;
  bench.host.io_uring_setup = [&error] { return error; };
  CHECK(bench.check("io_uring").state == State::no);
  CHECK(contains(bench.check("io_uring").fix, "seccomp"));
  bench.root.write("proc/sys/kernel/io_uring_disabled", "2");
  CHECK(contains(bench.check("io_uring").fix, "sysctl"));
  error = ENOSYS;
  CHECK(contains(bench.check("io_uring").found, "none"));
  bench.root.write("proc/sys/kernel/io_uring_disabled", "0");
  error = ENOMEM;
  CHECK(contains(bench.check("io_uring").fix, "ulimit -l"));
}

TEST_CASE("Landlock, seccomp and user namespaces are told missing") {
  Bench bench;
  bench.host.landlock_abi = [] { return -EOPNOTSUPP; };
  CHECK(contains(bench.check("Landlock").found, "switched off"));
  bench.host.landlock_abi = [] { return -ENOSYS; };
  CHECK(bench.check("Landlock").found == "missing");
  bench.host.seccomp_filter = [] { return ENOSYS; };
  CHECK(bench.check("seccomp filters").state == State::no);

  bench.host.user_namespace = [] { return EPERM; };
  CHECK(bench.check("user namespaces").state == State::no);
  bench.root.write("proc/sys/user/max_user_namespaces", "0");
  CHECK(contains(bench.check("user namespaces").fix, "max_user_namespaces"));
  bench.root.write("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1");
  CHECK(contains(bench.check("user namespaces").fix, "apparmor"));
  bench.root.write("proc/sys/kernel/unprivileged_userns_clone", "0");
  CHECK(contains(bench.check("user namespaces").fix, "userns_clone"));
  bench.host.is_root_user = true;
  CHECK(bench.check("user namespaces").state == State::limited);
}

TEST_CASE("a limit below what is enough names the way to raise it") {
  struct Row {
    int resource;
    const char* name;
    rlim_t enough;
  };
  for (const Row& row : {Row{RLIMIT_MEMLOCK, "locked memory", 8 << 20},
                         Row{RLIMIT_NOFILE, "open files", 1024}, Row{RLIMIT_NPROC, "processes", 1024}}) {
    Bench bench;
    bench.limits[row.resource] = {row.enough, row.enough};
    CHECK(bench.check(row.name).state == State::yes);
    bench.limits[row.resource] = {row.enough - 1, row.enough};
    CHECK(bench.check(row.name).state == State::limited);
    CHECK(contains(bench.check(row.name).fix, "ulimit -"));
    bench.limits[row.resource] = {row.enough - 1, row.enough - 1};
    CHECK(contains(bench.check(row.name).fix, "limits.conf"));
  }
}

TEST_CASE("few process numbers are a limit") {
  const Bench bench;
  bench.root.write("proc/sys/kernel/pid_max", "32768");
  CHECK(bench.check("process numbers").state == State::yes);
  bench.root.write("proc/sys/kernel/pid_max", "32767");
  CHECK(bench.check("process numbers").state == State::limited);
  bench.root.remove("proc/sys/kernel/pid_max");
  CHECK(bench.check("process numbers").state == State::unknown);
}

TEST_CASE("a program that is not installed is named with its package") {
  const Bench bench;
  for (const std::string name : {"passt", "qemu-system-x86_64", "dnsmasq", "nft"}) {
    CHECK(bench.check(name).found == "/usr/bin/" + name);
    bench.root.remove("usr/bin/" + name);
    CHECK(bench.check(name).state == State::no);
    CHECK(contains(bench.check(name).fix, "apt-get install"));
  }
}

TEST_CASE("a host without a default route has none for VMs either") {
  const Bench bench;
  bench.root.remove("proc/thread-self");
  CHECK(bench.check("default route").state == State::no);
  CHECK(exit_code_of(verdict_of(host_checks(bench.host))) == 0);
}

TEST_CASE("this host can be examined") {
  for (const Check& each : host_checks(real_host())) {
    CHECK_FALSE(each.name.empty());
    CHECK_FALSE(each.found.empty());
    if (each.state == State::no || each.state == State::limited) CHECK_FALSE(each.costs.empty());
  }
}

}  // namespace hum::doctor
