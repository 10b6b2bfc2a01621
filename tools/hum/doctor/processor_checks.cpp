// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <string>
#include <string_view>

#include "tools/hum/doctor/host_checks.h"

namespace hum::doctor {
namespace {

using State = Check::State;
using Weight = Check::Weight;

// The files of /sys/devices/system/cpu/vulnerabilities that tell of leaks across the edge of a VM (Linux,
// Documentation/admin-guide/hw-vuln), and what an open one means to somebody who runs VMs.
struct Vulnerability {
  std::string_view file;
  std::string_view costs;
};

constexpr std::array<Vulnerability, 18> vulnerabilities = {{
    {"l1tf", "a guest can read what this host and other guests have in the level 1 cache"},
    {"mds", "a guest can read scraps of this host's and other guests' data"},
    {"mmio_stale_data", "a guest can read scraps of data where it has access to a device's registers"},
    {"tsx_async_abort", "a guest can read scraps of this host's and other guests' data"},
    {"itlb_multihit", "a guest can stop this host with a machine check"},
    {"meltdown", "a program in a guest can read its kernel's memory"},
    {"spectre_v1", "a guest can lead this host's kernel into revealing its memory"},
    {"spectre_v2", "a guest can lead this host's kernel or another guest into revealing memory"},
    {"spec_store_bypass", "a program can read memory of its own process that it should not"},
    {"retbleed", "a guest can lead this host's kernel into revealing its memory"},
    {"spec_rstack_overflow", "a guest can lead this host's kernel into revealing its memory"},
    {"srbds", "a guest can read random numbers made for others"},
    {"gather_data_sampling", "a guest can read scraps of data in vector registers"},
    {"reg_file_data_sampling", "a guest can read scraps of data in registers"},
    {"indirect_target_selection", "a guest can lead this host's kernel into revealing its memory"},
    {"tsa", "a guest can learn of data that this host and other guests work with"},
    {"vmscape", "a guest can lead its own VMM process into revealing its memory"},
    {"old_microcode", "known faults of this processor are not mended"},
}};

bool is_open(const std::string& text) {
  return text.find("ulnerable") != std::string::npos;
}

std::string path_of(std::string_view file) {
  return "/sys/devices/system/cpu/vulnerabilities/" + std::string(file);
}

std::vector<Check> vulnerability_checks(const Host& host) {
  std::vector<Check> open;
  unsigned told = 0;
  for (const Vulnerability& each : vulnerabilities) {
    const std::optional<std::string> text = host.read(path_of(each.file));
    if (!text) continue;
    ++told;
    if (!is_open(*text)) continue;
    open.push_back({"vulnerability " + std::string(each.file), State::limited, *text, std::string(each.costs),
                    "update Linux and the processor's microcode, and start without mitigations=off",
                    Weight::remark});
  }
  Check summary{"vulnerabilities", State::yes, "", "", "", Weight::remark};
  summary.found =
      std::to_string(told) + " kinds known to this Linux, " + std::to_string(open.size()) + " open";
  if (told == 0) {
    summary.state = State::unknown;
    summary.found = "this Linux does not say";
  } else if (!open.empty()) {
    summary.state = State::limited;
    summary.costs = "do not run guests that are not trusted beside others; see the lines below";
  }
  open.insert(open.begin(), summary);
  return open;
}

std::string microcode_version(const Host& host) {
  const std::string all = host.read("/proc/cpuinfo").value_or("");
  const std::size_t line = all.find("\nmicrocode");
  if (line == std::string::npos) return {};
  const std::size_t begin = all.find(": ", line);
  return begin == std::string::npos ? "" : all.substr(begin + 2, all.find('\n', begin) - begin - 2);
}

Check microcode_check(const Host& host) {
  const std::string version = microcode_version(host);
  const bool old = is_open(host.read(path_of("old_microcode")).value_or(""));
  Check check{"microcode",
              State::yes,
              "version " + version,
              "known faults of this processor are not mended",
              "sudo apt-get install intel-microcode or amd64-microcode, and restart",
              Weight::remark};
  if (old) {
    check.state = State::no;
    check.found += ", and there is a newer one";
  } else if (version.empty()) {
    check.state = State::unknown;
    check.found = "this Linux does not say";
    check.costs.clear();
    check.fix.clear();
  }
  return check;
}

// Leaks that the threads of one core share, whatever else is mitigated.
Check threads_check(const Host& host) {
  Check check{"threads of a core", State::yes, "one", "", "", Weight::remark};
  if (host.read("/sys/devices/system/cpu/smt/active").value_or("0") != "1") return check;
  check.found = "two or more run at once";
  for (const std::string_view file : {"l1tf", "mds", "tsx_async_abort", "mmio_stale_data"}) {
    const std::string text = host.read(path_of(file)).value_or("Not affected");
    if (text.find("SMT vulnerable") == std::string::npos) continue;
    check.state = State::limited;
    check.found += ", and " + std::string(file) + " leaks between them";
    check.costs = "two guests on one core can read each other's data";
    check.fix = "echo off | sudo tee /sys/devices/system/cpu/smt/control, or give each guest whole cores";
    break;
  }
  return check;
}

Check clock_check(const Host& host) {
  const std::string folder = "/sys/devices/system/clocksource/clocksource0/";
  const std::string source = host.read(folder + "current_clocksource").value_or("");
  Check check{"time source", State::yes, source, "", "", Weight::remark};
  if (source.empty()) {
    check.state = State::unknown;
    check.found = "this Linux does not say";
  } else if (source != "tsc" && source != "kvm-clock" && source != "hyperv_clocksource_tsc_page") {
    check.state = State::limited;
    check.costs =
        "reading the time takes a microsecond instead of some nanoseconds, and a guest's clock may drift";
    check.fix = "see why Linux dropped the TSC: sudo dmesg | grep -i tsc";
  }
  return check;
}

}  // namespace

std::vector<Check> processor_checks(const Host& host) {
  std::vector<Check> checks = vulnerability_checks(host);
  checks.push_back(microcode_check(host));
  checks.push_back(threads_check(host));
  checks.push_back(clock_check(host));
  return checks;
}

}  // namespace hum::doctor
