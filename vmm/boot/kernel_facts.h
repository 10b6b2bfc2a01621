// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// What a kernel file says about itself, without a VM. The file is trusted in nothing.
struct KernelFacts {
  std::string kind;         // "bzImage 2.15", "ELF image of 64 bits", "multiboot image"
  std::string version;      // "6.1.0-56-cloud-amd64"; empty: it does not say
  std::string compression;  // of a bzImage's payload: "lz4"; empty: none or unknown
  bool is_linux = false;
  bool unpacked = false;  // the kernel proper could be read, and so all that follows means something

  // Ways in. A kernel with none of them does not start here.
  bool pvh = false;
  bool linux_64 = false;
  bool multiboot = false;
  std::uint64_t command_line_limit = 2047;  // characters

  // CONFIG_IKCONFIG's text; empty: the kernel has none.
  std::string configuration;
  // Which of the texts that were asked for occur in the kernel proper.
  std::vector<bool> texts;
  // Why it was not unpacked or does not start, as an error's words; empty: nothing known.
  std::string problem;
};

// Reads a kernel file; at most 1 GiB is unpacked. Throws ConfigError with the key "kernel" for what is no
// kernel for this machine at all, HostError where reading fails.
KernelFacts examine_kernel(const std::string& path, std::span<const std::string_view> texts = {});

}  // namespace hum
