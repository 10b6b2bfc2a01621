// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace hum {

// The guest's first process (init.c): a static executable, a part of this program.
std::span<const std::byte> guest_init();

// What a guest started by `hum run` is to do; see job.h for how init carries it out.
struct Job {
  struct TerminalSize {
    std::uint16_t rows = 24;
    std::uint16_t columns = 80;
  };

  std::vector<std::string> arguments;    // the command's words; none: a shell, or the init of the root disk
  std::vector<std::string> environment;  // "NAME=VALUE"
  std::string directory;                 // where it starts; empty: the guest's choice
  std::string hostname = "hum";
  std::optional<TerminalSize> terminal;  // a command: runs on a terminal; a shell: the console's size
  // Interfaces get addresses by DHCP, and the command waits so many milliseconds for the first one.
  std::optional<std::uint16_t> network_patience;
};

// An initrd with just /init and the job. Appended to an initrd of the kernel store it replaces that one's
// init, so the two sides always speak of the same job; it is enough by itself for a kernel with virtio built
// in and a root disk. Throws ConfigError if a text holds a zero byte, a variable no '=' or a command an empty
// first word.
std::vector<std::byte> job_archive(const Job& job);

}  // namespace hum
