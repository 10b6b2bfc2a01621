// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "tools/hum/kernel_store_modules.h"

namespace hum {

// What goes into the small root that guests start from.
struct InitrdParts {
  std::span<const std::byte> init;
  std::span<const std::byte> busybox;
  std::vector<std::string> applets;       // busybox's commands
  std::span<const KernelModule> modules;  // in load order
};

// The initrd, not compressed: it is unpacked on every boot, and copying is quicker than decompression. /bin
// holds busybox and a link for each command (/sbin, /usr/bin and /usr/sbin lead there), /hum/modules the load
// order.
std::vector<std::byte> make_initrd(const InitrdParts& parts);

// True if the bytes are an executable for 64-bit Linux that needs no loader and no library.
bool is_static_executable(std::span<const std::byte> file);

}  // namespace hum
