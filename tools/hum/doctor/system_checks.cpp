// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <sstream>
#include <string>
#include <string_view>

#include "devices/net/user_host.h"
#include "tools/hum/doctor/host_checks.h"
#include "vmm/base/options.h"

namespace hum::doctor {
namespace {

using State = Check::State;
using Weight = Check::Weight;

// A device file that some kind of network or socket needs.
struct DeviceFile {
  std::string_view path;
  std::string_view costs;
  std::string_view module;
  std::string_view permission;
};

Check device_file_check(const Host& host, const DeviceFile& device) {
  Check check{std::string(device.path),  State::yes, "there, and permitted",
              std::string(device.costs), "",         Weight::remark};
  const int error = host.open_device(host.root + std::string(device.path));
  if (error == 0) return check;
  check.state = State::no;
  if (error == ENOENT || error == ENXIO || error == ENODEV) {
    check.found = "not there";
    check.fix = "sudo modprobe " + std::string(device.module);
  } else {
    check.found = "there, but not usable: " + std::string(std::strerror(error));
    check.fix = device.permission;
  }
  return check;
}

std::optional<std::uint64_t> meminfo(const Host& host, const std::string& key) {
  std::istringstream lines(host.read("/proc/meminfo").value_or(""));
  std::string name;
  std::uint64_t kibibytes = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    if (words >> name >> kibibytes && name == key + ":") return kibibytes << 10;
  }
  return std::nullopt;
}

std::string mebibytes(std::uint64_t bytes) {
  return format_size(bytes >> 20 << 20);
}

Check free_memory_check(const Host& host) {
  constexpr std::uint64_t little = 512ull << 20;
  const std::optional<std::uint64_t> available = meminfo(host, "MemAvailable");
  Check check{"free memory",
              State::yes,
              "",
              "a VM with the default 256M may be killed for want of memory",
              "end something, or give less with --memory",
              Weight::remark};
  if (!available) {
    check.state = State::unknown;
    check.found = "this Linux does not say";
    return check;
  }
  check.found = mebibytes(*available) + " of " + mebibytes(meminfo(host, "MemTotal").value_or(0));
  if (*available < little) check.state = State::limited;
  return check;
}

Check pool_check(const Host& host, const std::string& size, std::uint64_t kibibytes, bool used) {
  const std::string folder = "/sys/kernel/mm/hugepages/hugepages-" + std::to_string(kibibytes) + "kB/";
  const std::optional<std::uint64_t> total = host.read_number(folder + "nr_hugepages");
  const std::uint64_t free = host.read_number(folder + "free_hugepages").value_or(0);
  Check check{size + " pages", State::no, "", "", "", Weight::remark};
  check.costs =
      used ? "'--hugepages on' does not start: without it a guest with much memory is some percent slower"
           : "none: only very large guests gain from them";
  check.fix = "echo 512 | sudo tee " + folder + "nr_hugepages";
  if (!used) check.fix = "start Linux with hugepagesz=1G hugepages=N";
  if (!total) {
    check.found = "this Linux has none";
    check.fix.clear();
    return check;
  }
  check.found = std::to_string(free) + " free of " + std::to_string(*total);
  check.state = *total == 0 ? State::no : free == 0 ? State::limited : State::yes;
  return check;
}

Check transparent_check(const Host& host) {
  const std::string modes = host.read("/sys/kernel/mm/transparent_hugepage/enabled").value_or("");
  const std::size_t begin = modes.find('[');
  const std::string mode =
      begin == std::string::npos ? "" : modes.substr(begin + 1, modes.find(']', begin) - begin - 1);
  const bool good = mode == "always" || mode == "madvise";
  return {"transparent huge pages",
          good           ? State::yes
          : mode.empty() ? State::unknown
                         : State::no,
          mode.empty() ? "this Linux does not say" : mode,
          "a guest's memory is in pages of 4K: more misses of the processor's tables",
          mode.empty() ? "" : "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
          Weight::remark};
}

Check overcommit_check(const Host& host) {
  const std::optional<std::uint64_t> mode = host.read_number("/proc/sys/vm/overcommit_memory");
  Check check{"overcommit of memory", State::yes, "by judgement (0)", "", "", Weight::remark};
  if (!mode) {
    check.state = State::unknown;
    check.found = "this Linux does not say";
  } else if (*mode == 1) {
    check.found = "always (1)";
  } else if (*mode == 2) {
    check.state = State::limited;
    check.found = "never (2)";
    check.costs = "a VM is refused unless all of its memory is free, whether it uses it or not";
    check.fix = "sudo sysctl vm.overcommit_memory=0";
  }
  return check;
}

// Where a control group file system is mounted, by its type.
std::string mount_of(const Host& host, const std::string& type) {
  std::istringstream lines(host.read("/proc/mounts").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string device;
    std::string where;
    std::string kind;
    if (words >> device >> where >> kind && kind == type) return where;
  }
  return {};
}

std::string own_group(const Host& host) {
  std::istringstream lines(host.read("/proc/self/cgroup").value_or(""));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("0::")) return line.substr(3);
  return {};
}

Check cgroup_check(const Host& host) {
  Check check{
      "control groups", State::no, "", "VMs cannot be held to a share of processors, memory and disk", "",
      Weight::remark};
  const std::string mount = mount_of(host, "cgroup2");
  if (mount.empty()) {
    check.found = mount_of(host, "cgroup").empty() ? "none" : "version 1 only";
    check.fix = "start Linux with systemd.unified_cgroup_hierarchy=1";
    return check;
  }
  const std::string folder = mount + own_group(host);
  const std::string controllers = host.read(folder + "/cgroup.controllers").value_or("");
  const bool writable = host.write_access(host.root + folder) == 0;
  const auto has = [&](const std::string& name) {
    return (" " + controllers + " ").find(" " + name + " ") != std::string::npos;
  };
  check.found = "version 2, controllers here: " + (controllers.empty() ? "none" : controllers);
  if (!writable) {
    check.state = State::limited;
    check.found += "; not ours to change";
    check.fix = "run under systemd-run --user --scope -p Delegate=yes hum ...";
  } else if (has("cpu") && has("memory") && has("pids")) {
    check.state = State::yes;
  } else {
    check.state = State::limited;
    check.fix =
        mount_of(host, "cgroup").empty()
            ? "delegate them: sudo systemctl edit user@.service, with [Service] Delegate=cpu memory pids io"
            : "start Linux with systemd.unified_cgroup_hierarchy=1: version 1 holds the controllers";
  }
  return check;
}

Check io_uring_check(const Host& host) {
  Check check{"io_uring", State::yes,    "usable", "disks do one request after the other, by a thread",
              "",         Weight::remark};
  const int error = host.io_uring_setup();
  if (error == 0) return check;
  check.state = State::no;
  check.found = std::strerror(error);
  const std::uint64_t disabled = host.read_number("/proc/sys/kernel/io_uring_disabled").value_or(0);
  if (error == ENOSYS) {
    check.found = "this Linux has none";
    check.fix = "use a Linux from 5.10 on";
  } else if (disabled != 0) {
    check.found = "switched off (kernel.io_uring_disabled=" + std::to_string(disabled) + ")";
    check.fix = "sudo sysctl kernel.io_uring_disabled=0";
  } else if (error == EPERM || error == EACCES) {
    check.fix = "a container forbids it: allow io_uring_setup in its seccomp profile";
  } else if (error == ENOMEM) {
    check.fix = "raise the limit of locked memory: ulimit -l 65536";
  }
  return check;
}

Check landlock_check(const Host& host) {
  const int version = host.landlock_abi();
  Check check{"Landlock", State::yes,    "", "a VM's process cannot be kept from files without root",
              "",         Weight::remark};
  if (version > 0) {
    check.found = "version " + std::to_string(version);
    return check;
  }
  check.state = State::no;
  check.found = version == -EOPNOTSUPP ? "built in, but switched off" : "missing";
  check.fix = version == -EOPNOTSUPP ? "add landlock to lsm= of this host's kernel command line"
                                     : "use a Linux from 5.13 on with CONFIG_SECURITY_LANDLOCK";
  return check;
}

Check seccomp_check(const Host& host) {
  const int error = host.seccomp_filter();
  return {"seccomp filters",
          error == 0 ? State::yes : State::no,
          error == 0 ? "there" : std::strerror(error),
          "a VM's process that a guest has taken over can make any system call",
          "use a Linux with CONFIG_SECCOMP_FILTER",
          Weight::remark};
}

Check user_namespace_check(const Host& host) {
  Check check{"user namespaces",
              State::yes,
              "can be made",
              "a VM cannot be put into a jail of its own without root",
              "",
              Weight::remark};
  const int error = host.user_namespace();
  if (error == 0) return check;
  check.state = host.is_root_user ? State::limited : State::no;
  check.found = std::strerror(error);
  if (host.read_number("/proc/sys/kernel/unprivileged_userns_clone") == 0u) {
    check.fix = "sudo sysctl kernel.unprivileged_userns_clone=1";
  } else if (host.read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1u) {
    check.fix = "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0";
  } else if (host.read_number("/proc/sys/user/max_user_namespaces") == 0u) {
    check.fix = "sudo sysctl user.max_user_namespaces=10000";
  }
  return check;
}

struct Limit {
  int resource;
  std::string_view name;
  std::uint64_t enough;
  std::string_view costs;
  std::string_view option;  // of ulimit
};

std::string amount_of(rlim_t value, bool bytes) {
  if (value == RLIM_INFINITY) return "unlimited";
  return bytes ? format_size(value) : std::to_string(value);
}

Check limit_check(const Host& host, const Limit& wanted) {
  const rlimit limit = host.limit(wanted.resource);
  const bool bytes = wanted.resource == RLIMIT_MEMLOCK;
  Check check{std::string(wanted.name),  State::yes, amount_of(limit.rlim_cur, bytes),
              std::string(wanted.costs), "",         Weight::remark};
  if (limit.rlim_cur >= wanted.enough) return check;
  check.state = State::limited;
  const std::uint64_t argument = bytes ? wanted.enough >> 10 : wanted.enough;
  check.fix = limit.rlim_max >= wanted.enough
                  ? "ulimit -" + std::string(wanted.option) + " " + std::to_string(argument)
                  : "raise it in /etc/security/limits.conf and log in again: it is at most " +
                        amount_of(limit.rlim_max, bytes) + " here";
  return check;
}

Check process_number_check(const Host& host) {
  constexpr std::uint64_t enough = 32768;
  const std::optional<std::uint64_t> most = host.read_number("/proc/sys/kernel/pid_max");
  return {"process numbers",
          !most            ? State::unknown
          : *most < enough ? State::limited
                           : State::yes,
          most ? "up to " + std::to_string(*most) : "this Linux does not say",
          "few VMs at once: each has some threads",
          most ? "sudo sysctl kernel.pid_max=4194304" : "",
          Weight::remark};
}

struct Program {
  std::string_view name;
  std::string_view costs;
  std::string_view package;
};

Check program_check(const Host& host, const Program& program) {
  const std::optional<std::string> path = host.find_program(std::string(program.name));
  return {std::string(program.name),
          path ? State::yes : State::no,
          path.value_or("not installed"),
          std::string(program.costs),
          "sudo apt-get install " + std::string(program.package),
          Weight::remark};
}

Check route_check(const Host& host) {
  const bool found = has_default_route(host.root);
  return {"default route",
          found ? State::yes : State::no,
          found ? "there" : "none",
          "no network for a VM without root: passt has none to share",
          "connect this host; 'ip route' shows its routes",
          Weight::remark};
}

}  // namespace

std::vector<Check> device_checks(const Host& host) {
  return {
      device_file_check(host, {"/dev/net/tun", "a VM cannot be connected to a bridge of this host", "tun",
                               "sudo chmod a+rw /dev/net/tun"}),
      device_file_check(host, {"/dev/vhost-net", "a VM's network takes more processor time", "vhost_net",
                               "sudo usermod -aG kvm $USER, and log in again"}),
      device_file_check(host, {"/dev/vhost-vsock", "sockets between host and guest need a slower way",
                               "vhost_vsock", "sudo usermod -aG kvm $USER, and log in again"}),
  };
}

std::vector<Check> memory_checks(const Host& host) {
  return {free_memory_check(host), pool_check(host, "2M", 2048, true), pool_check(host, "1G", 1048576, false),
          transparent_check(host), overcommit_check(host)};
}

std::vector<Check> isolation_checks(const Host& host) {
  return {cgroup_check(host), io_uring_check(host), landlock_check(host), seccomp_check(host),
          user_namespace_check(host)};
}

std::vector<Check> limit_checks(const Host& host) {
  return {
      limit_check(host, {RLIMIT_MEMLOCK, "locked memory", 8ull << 20,
                         "rings of io_uring and registered buffers may be refused", "l"}),
      limit_check(
          host, {RLIMIT_NOFILE, "open files", 1024, "a VM with many devices and queues does not start", "n"}),
      limit_check(host, {RLIMIT_NPROC, "processes", 1024, "few VMs at once: each has some threads", "u"}),
      process_number_check(host),
  };
}

std::vector<Check> program_checks(const Host& host) {
  return {
      program_check(host, {"passt", "no network for a VM without root", "passt"}),
      route_check(host),
      program_check(host,
                    {"qemu-system-x86_64", "tools/lab, which stands in for missing hardware, does not run",
                     "qemu-system-x86"}),
      program_check(host, {"dnsmasq", "networks of the daemon give no addresses to guests", "dnsmasq-base"}),
      program_check(host, {"nft", "networks of the daemon cannot reach the outside", "nftables"}),
  };
}

}  // namespace hum::doctor
