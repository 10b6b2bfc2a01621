// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hum {

// The kernels that `hum run` can start: one folder each in
// ${HUM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hum}/kernels, named after the kernel's release, with
//   vmlinuz  the kernel as it was packaged        initrd  the small root, see make_initrd
//   config   its configuration, if packaged       info    lines "key=value": release, package, version,
//   sha256
// A folder appears and is replaced at once, complete; one process at a time changes the store.
struct StoredKernel {
  std::string name;  // the release: "6.1.0-56-cloud-amd64"
  std::string kernel_path;
  std::string initrd_path;
  std::string version;  // of the package: "6.1.192-2"
};

struct GetOptions {
  enum class Flavour : std::uint8_t { cloud, generic };

  Flavour flavour = Flavour::cloud;  // of the package that is downloaded
  std::string from_deb;              // a linux-image package that is at hand, instead
  bool from_installed = false;       // or this host's own kernel of /boot, the newest that can be read
  bool force = false;                // make it anew if it is in the store
  std::function<void(std::string_view)> progress = [](std::string_view) {};  // a line for each step
};

// Where the store is. Throws ConfigError if no variable says so.
std::filesystem::path kernel_store_folder();

// All kernels, the newest first.
std::vector<StoredKernel> list_kernels();

// The newest one.
std::optional<StoredKernel> default_kernel();

// Puts a kernel into the store (nothing is installed on the host, no root is needed) and answers it. A
// failure or an interrupt leaves the store as it was. Throws ConfigError and HostError; where a tool of the
// host is missing (apt-get, dpkg-deb), the message says what can be given instead.
StoredKernel get_kernel(const GetOptions& options);

}  // namespace hum
