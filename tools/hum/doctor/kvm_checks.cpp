// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>

#include "tools/hum/doctor/host_checks.h"
#include "vmm/kvm/probe.h"

namespace hum::doctor {
namespace {

using State = Check::State;
using Weight = Check::Weight;

bool has_flag(const std::string& processor, const std::string& flag) {
  return (processor + " ").find(" " + flag + " ") != std::string::npos;
}

// The "flags" line of the first processor.
std::string processor_flags(const Host& host) {
  const std::string all = host.read("/proc/cpuinfo").value_or("");
  const std::size_t begin = all.find("\nflags");
  if (begin == std::string::npos) return {};
  return all.substr(begin, all.find('\n', begin + 1) - begin);
}

// What mends a host without /dev/kvm depends on its processor.
std::string fix_for_missing(const Host& host) {
  const std::string flags = processor_flags(host);
  if (has_flag(flags, "vmx")) return "sudo modprobe kvm_intel";
  if (has_flag(flags, "svm")) return "sudo modprobe kvm_amd";
  if (has_flag(flags, "hypervisor"))
    return "this host is a VM itself: switch nested virtualization on where it is run, or use tools/lab";
  return "switch virtualization (VT-x, SVM) on in the firmware's setup, or use tools/lab";
}

Check device_check(const Host& host, const KvmReport& report) {
  Check check{"/dev/kvm", State::yes, "there, and permitted", "no VM runs on this host", "", Weight::vital};
  if (report.open_error == 0) return check;
  check.state = State::no;
  check.found = std::strerror(report.open_error);
  switch (report.open_error) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
      check.found = "not there";
      check.fix = fix_for_missing(host);
      break;
    case EACCES:
    case EPERM:
      check.found = "there, but not permitted to this user";
      check.fix = "sudo usermod -aG kvm $USER, and log in again";
      break;
    default:
      break;
  }
  return check;
}

Check version_check(const KvmReport& report) {
  const bool good = report.api_version == stable_kvm_api;
  return {"KVM's API",
          good ? State::yes : State::no,
          "version " + std::to_string(report.api_version),
          "no VM runs: this VMM needs version " + std::to_string(stable_kvm_api),
          "use a Linux from 5.10 on",
          Weight::vital};
}

// Modules beside "kvm" itself: kvm_intel, kvm_amd, or something else.
std::string backing_module(const Host& host) {
  std::error_code ignored;
  std::string name;
  for (const auto& entry : std::filesystem::directory_iterator(host.root + "/sys/module", ignored))
    if (const std::string each = entry.path().filename().string(); each.starts_with("kvm_")) name = each;
  return name;
}

Check module_check(const Host& host) {
  const std::string module = backing_module(host);
  const bool in_vm = has_flag(processor_flags(host), "hypervisor");
  Check check{"KVM's module", State::yes, module, "", "", Weight::remark};
  if (module.empty()) {
    check.state = State::unknown;
    check.found = "none named in /sys/module: built in, or hidden";
    return check;
  }
  if (in_vm) check.found += ", inside a VM";
  if (module != "kvm_intel" && module != "kvm_amd") {
    check.state = State::limited;
    check.found += ": not the processor's own virtualization";
    check.costs = "what runs at the speed of hardware depends on this module: see the line 'kernel code'";
    check.fix = "use a host with VT-x or SVM, or tools/lab for what does not run here";
  }
  return check;
}

Check nesting_check(const Host& host) {
  const std::string nested =
      host.read("/sys/module/" + backing_module(host) + "/parameters/nested").value_or("");
  const bool on = nested == "Y" || nested == "1";
  return {"nested virtualization",
          on               ? State::yes
          : nested.empty() ? State::unknown
                           : State::no,
          on               ? "guests can run VMs themselves"
          : nested.empty() ? "this module does not say"
                           : "off",
          "a guest has no /dev/kvm of its own",
          nested.empty()
              ? ""
              : "echo 'options " + backing_module(host) +
                    " nested=1' | sudo tee /etc/modprobe.d/kvm-nested.conf, and load the module again",
          Weight::remark};
}

Check capability_check(const KvmCapability& capability, int answer) {
  Check check{"KVM " + std::string(capability.name), State::yes,    "", std::string(capability.costs),
              "use a newer Linux on this host",      Weight::remark};
  check.found = answer > 1 || capability.least > 1 ? std::to_string(answer)
                : answer == 1                      ? "there"
                                                   : "missing";
  if (answer >= capability.least) return check;
  check.state = capability.need == KvmCapability::Need::required || answer == 0 ? State::no : State::limited;
  if (capability.need == KvmCapability::Need::required) check.weight = Weight::vital;
  return check;
}

// To a tenth where that says something.
std::string nanoseconds_text(double nanoseconds) {
  const auto tenths = std::lround(nanoseconds * 10);
  if (tenths == 0) return "less than 0.1 ns";
  if (tenths >= 100) return std::to_string(std::lround(nanoseconds)) + " ns";
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " ns";
}

Check speed_check(const KvmReport& report) {
  Check check{"kernel code", State::yes, "", "", "", Weight::vital};
  if (!report.problem.empty()) {
    check.state = State::no;
    check.found = "the probe VM did not run: " + report.problem;
    check.costs = "no VM runs on this host";
    return check;
  }
  const double nanoseconds = report.supervisor_nanoseconds;
  const bool native = nanoseconds < emulated_supervisor_nanoseconds;
  check.found =
      std::string(native ? "native" : "emulated") + ", " + nanoseconds_text(nanoseconds) + " an instruction";
  if (native) return check;
  check.state = State::limited;
  check.costs = "a distribution's kernel does not get to its first message; small guest tests run";
  check.fix = "run it in the lab: tools/lab hum run ..., or on a host with VT-x or SVM";
  return check;
}

}  // namespace

std::vector<Check> kvm_checks(const Host& host) {
  const KvmReport report = host.examine_kvm();
  std::vector<Check> checks{device_check(host, report)};
  if (report.open_error != 0) return checks;
  checks.push_back(version_check(report));
  checks.push_back(module_check(host));
  checks.push_back(nesting_check(host));
  checks.push_back(speed_check(report));
  const std::span<const KvmCapability> capabilities = used_capabilities();
  for (std::size_t i = 0; i < capabilities.size() && i < report.capabilities.size(); ++i)
    checks.push_back(capability_check(capabilities[i], report.capabilities[i]));
  return checks;
}

std::vector<Check> host_checks(const Host& host) {
  std::vector<Check> all;
  for (const auto group : {kvm_checks, processor_checks, device_checks, memory_checks, isolation_checks,
                           limit_checks, program_checks})
    for (Check& check : group(host)) all.push_back(std::move(check));
  return all;
}

}  // namespace hum::doctor
