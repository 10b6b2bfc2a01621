// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/hum-vmm/console_log.h"

namespace hum {

// The command line, with Firecracker's flags.
struct VmmArguments {
  std::string api_sock = "/run/firecracker.socket";
  std::string id = "anonymous-instance";
  std::string config_file;
  bool no_api = false;
  std::string log_path;
  std::string level = "Info";
  bool show_level = false;
  std::string metrics_path;
  std::string record;  // a file; empty: none
  int ready_fd = -1;   // -1: nobody waits
  std::optional<ConsoleLogSettings> console_log;
  std::size_t most_body_bytes = 51200;
  bool pci = false;
  std::string metadata;                            // a file
  std::optional<std::size_t> most_metadata_bytes;  // like most_body_bytes
  bool no_seccomp = false;
  std::string seccomp_filter;  // a file for another program, which is not read
  bool boot_timer = false;
  // When whoever started this process began with that, in microseconds: CLOCK_MONOTONIC; this process's CPU
  // time; and the CPU time that went before.
  std::optional<std::uint64_t> start_time_us;
  std::optional<std::uint64_t> start_time_cpu_us;
  std::uint64_t parent_cpu_time_us = 0;
};

// None where the command line was answered by itself (--version, --help). Throws ConfigError.
std::optional<VmmArguments> parse_arguments(const std::vector<std::string>& arguments);

}  // namespace hum
