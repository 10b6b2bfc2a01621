// SPDX-License-Identifier: Apache-2.0
#include "tools/hum-vmm/arguments.h"

#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "tools/hum-vmm/identity.h"
#include "tools/hum/usage.h"
#include "vmm/base/errors.h"

namespace hum {

std::optional<VmmArguments> parse_arguments(const std::vector<std::string>& arguments) {
  VmmArguments result;
  CLI::App app("Hummingbird's virtual machine in one process, driven by Firecracker's API.", "hum-vmm");
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  app.add_option("--api-sock", result.api_sock, "the API's Unix socket")->capture_default_str();
  app.add_option("--id", result.id, "the VM's name: letters, digits and '-'")->capture_default_str();
  app.add_option("--config-file", result.config_file, "the whole configuration; the VM is started at once");
  app.add_flag("--no-api", result.no_api, "serve no API; needs --config-file");
  app.add_option("--log-path", result.log_path, "a file or fifo for the log (default: standard error)");
  app.add_option("--level", result.level, "Off, Error, Warning, Info, Debug or Trace")
      ->check(CLI::IsMember({"off", "error", "warning", "warn", "info", "debug", "trace"}, CLI::ignore_case))
      ->capture_default_str();
  app.add_flag("--show-level", result.show_level, "the log's lines say their level");
  app.add_option("--metrics-path", result.metrics_path, "a file or fifo for the metrics");
  app.add_option("--record", result.record, "a file that says how the VM ended, or that it runs, as JSON");
  app.add_option(
         "--ready-fd", result.ready_fd,
         "an inherited descriptor, a pipe's: gets a newline, and is closed, once the API answers and the VM "
         "of --config-file runs")
      ->check(CLI::Range(3, INT_MAX));
  std::string console_log;
  app.add_option(
      "--console-log", console_log,
      "a file for what the guest puts out: FILE[,size=N], renamed to FILE.1 at N bytes (default: 1M)");
  app.add_option("--http-api-max-payload-size", result.most_body_bytes,
                 "the longest body of a request, bytes")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 30))
      ->capture_default_str();
  app.add_flag("--enable-pci", result.pci, "attach virtio devices over PCI instead of MMIO");
  app.add_option("--metadata", result.metadata, "the metadata of PUT /mmds, a JSON file");
  app.add_option("--mmds-size-limit", result.most_metadata_bytes,
                 "the most metadata, bytes (default: like --http-api-max-payload-size)")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 30));
  app.add_flag("--no-seccomp", result.no_seccomp, "do not restrict the process's system calls");
  app.add_option("--seccomp-filter", result.seccomp_filter, "not read: filters are hum-vmm's own");
  app.add_flag("--boot-timer", result.boot_timer,
               "log how long the guest took to start: it writes the byte 123 to 0xc0000000");
  const CLI::Range moments(std::uint64_t{0}, std::uint64_t{1} << 53);
  app.add_option("--start-time-us", result.start_time_us, "when the start began, for the metrics")
      ->check(moments);
  app.add_option("--start-time-cpu-us", result.start_time_cpu_us, "this process's CPU time then")
      ->check(moments);
  app.add_option("--parent-cpu-time-us", result.parent_cpu_time_us, "the CPU time that went before")
      ->check(moments);
  bool snapshot_version = false;
  std::string snapshot;
  app.add_flag("--snapshot-version", snapshot_version, "refused: there are no snapshots yet");
  app.add_option("--describe-snapshot", snapshot, "refused: there are no snapshots yet");
  // What clients say that makes no difference here.
  std::string ignored;
  bool ignored_flag = false;
  const std::string group = "Accepted, without effect";
  app.add_option("--module", ignored, "")->group(group);
  app.add_flag("--show-log-origin", ignored_flag, "")->group(group);
  bool version = false;
  app.add_flag("--version", version, "print the versions of the API and of the program");
  app.footer(
      "Examples:\n"
      "  hum-vmm --api-sock /tmp/vm.socket &\n"
      "  curl --unix-socket /tmp/vm.socket http://localhost/\n"
      "  hum-vmm --no-api --config-file vm.json\n\n"
      "Exit codes: 0 the guest ended by itself, 1 the VM failed, 152 a bad configuration, 153 a bad command "
      "line, 156 SIGHUP.");
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw usage_error(app, error);
    app.exit(error);
    return {};
  }
  if (version) {
    std::printf("Firecracker v%.*s\nhum-vmm %s\n", static_cast<int>(dialect_version.size()),
                dialect_version.data(), HUM_VERSION);
    return {};
  }
  if (snapshot_version || !snapshot.empty())
    throw ConfigError(snapshot_version ? "--snapshot-version" : "--describe-snapshot", snapshot,
                      "snapshots are not supported yet");
  check_instance_id(result.id);
  if (app.count("--console-log") != 0) result.console_log = ConsoleLogSettings::parse(console_log);
  if (result.ready_fd >= 0 && ::fcntl(result.ready_fd, F_SETFD, FD_CLOEXEC) != 0)
    throw ConfigError("--ready-fd", std::to_string(result.ready_fd), std::strerror(errno),
                      "give an open descriptor, as with 'hum-vmm --ready-fd 3 3>/tmp/fifo'");
  if (result.no_api && result.config_file.empty())
    throw ConfigError("--no-api", "", "there is nothing to start", "add --config-file FILE");
  return result;
}

}  // namespace hum
