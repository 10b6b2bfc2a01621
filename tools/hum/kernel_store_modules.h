// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// What a kernel module says about itself in its section .modinfo. Names with '-' are written with '_'.
struct ModuleInfo {
  std::vector<std::string> needs;   // depends=: modules without which it does not load
  std::vector<std::string> before;  // softdep= pre: better loaded before it
  std::vector<std::string> after;   // softdep= post: better loaded after it
};

// Throws ConfigError if the bytes are no 64-bit ELF file with a .modinfo; `name` is for the message.
ModuleInfo read_module_info(std::string_view name, std::span<const std::byte> module);

// virtio_device: the type of the only devices that the module is good for (virtio 1.2, section 5); 0: it is
// always wanted.
struct WantedModule {
  std::string_view name;
  unsigned virtio_device = 0;
};

struct KernelModule {
  std::string name;
  std::vector<std::byte> content;  // uncompressed ELF
  unsigned virtio_device = 0;      // as of the wanted module that needs it
};

// The wanted modules, those that are always wanted first, and all that they need, in an order that loads.
// folder is lib/modules/<release> with the kernel's modules as they are packaged (.ko, .ko.xz, .ko.zst); no
// modules.dep is needed. Wanted modules and soft dependencies that this kernel has built in or left out are
// passed over. What two devices need stands there for each. Throws ConfigError if a module needs one that is
// nowhere, HostError if a file cannot be read.
std::vector<KernelModule> module_closure(const std::filesystem::path& folder,
                                         std::span<const WantedModule> wanted);

}  // namespace hum
