// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/doctor_command.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "tools/hum/doctor/boot_checks.h"
#include "tools/hum/doctor/host_checks.h"

namespace hum {
namespace {

constexpr doctor::VerdictWords host_words = {
    "VMs run here at full speed.",
    "VMs run here, with limits that matter: see what is 'limited' or 'no' above.",
    "No VM runs here.",
};
constexpr doctor::VerdictWords boot_words = {
    "Nothing stands in the way of this VM.",
    "This VM starts, with limits that matter: see what is 'limited' or 'no' above.",
    "This VM will not work.",
};

// The path of a disk as `hum run` takes it: PATH[,key=value...], where ",," is a comma.
std::string disk_path(const std::string& text) {
  std::string path;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ',' && (i + 1 == text.size() || text[i + 1] != ',')) break;
    if (text[i] == ',') ++i;
    path += text[i];
  }
  constexpr std::string_view key = "path=";
  return path.starts_with(key) ? path.substr(key.size()) : path;
}

}  // namespace

DoctorCommand::DoctorCommand(CLI::App& app, int& exit_code) {
  app.add_option("-k,--kernel", kernel_, "tell what a VM with this kernel will lack, instead of this host");
  app.add_option("-i,--initrd", initrd_, "the initial RAM disk that goes with it")->needs("--kernel");
  app.add_option("-d,--disk", disks_, "a disk, as 'hum run' takes it; may be repeated")->type_name("SPEC");
  app.add_option("--cmdline", command_line_, "the kernel's command line")->default_str("console=ttyS0");
  app.add_option("-a,--append", append_, "added to the command line; may be repeated");
  app.add_option("--transport", transport_, "how virtio devices will be attached")
      ->check(CLI::IsMember({"pci", "mmio"}))
      ->default_str("pci");
  app.add_flag("--json", json_, "print JSON");
  app.footer(
      "Nothing is changed on this host.\n"
      "Exit codes: 0 nothing stands in the way, 1 it runs with limits that matter, 3 no VM runs.\n\n"
      "Examples:\n"
      "  hum doctor\n"
      "  hum doctor --kernel vmlinuz --initrd initrd.img --disk root.img --append root=/dev/vda1");
  app.callback([this, &exit_code] { exit_code = examine(); });
}

int DoctorCommand::examine() const {
  const bool boot = !kernel_.empty() || !disks_.empty();
  std::vector<doctor::Check> checks;
  if (boot) {
    doctor::BootPlan plan;
    plan.kernel = kernel_;
    plan.initrd = initrd_;
    for (const std::string& each : disks_) plan.disks.push_back(disk_path(each));
    plan.command_line = command_line_.empty() ? "console=ttyS0" : command_line_;
    for (const std::string& each : append_) plan.command_line += " " + each;
    plan.mmio = transport_ == "mmio";
    checks = boot_checks(plan);
  } else {
    checks = host_checks(doctor::real_host());
  }
  if (json_) {
    std::printf("%s\n", doctor::as_json(checks).c_str());
  } else {
    const bool colours = ::isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
    std::fputs(doctor::as_text(checks, boot ? boot_words : host_words, colours).c_str(), stdout);
  }
  return doctor::exit_code_of(doctor::verdict_of(checks));
}

}  // namespace hum
