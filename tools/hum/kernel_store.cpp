// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/kernel_store.h"

#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <span>
#include <sstream>
#include <system_error>

#include "tools/hum/guest/guest.h"
#include "tools/hum/kernel_store_files.h"
#include "tools/hum/kernel_store_initrd.h"
#include "tools/hum/kernel_store_modules.h"
#include "tools/hum/process.h"
#include "vmm/base/errors.h"
#include "vmm/base/fd.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

constexpr const char* need_apt =
    "this needs a Debian host with apt and its lists ('apt-get update'); else give --kernel FILE and "
    "--initrd FILE";
constexpr const char* need_dpkg =
    "this needs the program of the package dpkg; else give --kernel FILE and --initrd FILE";
constexpr std::string_view image_prefix = "linux-image-";
constexpr std::string_view vmlinuz_prefix = "vmlinuz-";

// In load order; those of rare devices only where there is one. What a kernel has built in is passed over:
// ext4 and its checksum are modules of some.
constexpr std::array<WantedModule, 15> wanted_modules = {{{"virtio_pci"},
                                                          {"virtio_mmio"},
                                                          {"virtio_console"},
                                                          {"virtio_blk"},
                                                          {"virtio_net"},
                                                          {"virtio_rng"},
                                                          {"button"},
                                                          {"pvpanic_mmio"},
                                                          {"pvpanic_pci"},
                                                          {"crc32c_generic"},
                                                          {"crc32c_cryptoapi"},
                                                          {"ext4"},
                                                          {"virtio_balloon", 5},
                                                          {"vmw_vsock_virtio_transport", 19},
                                                          {"virtio_mem", 24}}};

// A kernel and its modules somewhere on this host.
struct KernelTree {
  std::string release;
  fs::path vmlinuz;
  fs::path modules;
  fs::path config;      // may not exist
  std::string package;  // "package" and "version" of its origin
  std::string version;
};

bool is_newer(const std::string& a, const std::string& b) {
  return strverscmp(a.c_str(), b.c_str()) > 0;
}

std::string line_value(const std::string& text, const std::string& key) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key)) return line.substr(key.size());
  }
  return {};
}

std::string text_of(const fs::path& path) {
  const std::vector<std::byte> content = read_whole_file(path);
  return {reinterpret_cast<const char*>(content.data()), content.size()};
}

std::optional<StoredKernel> stored(const fs::path& folder) {
  const StoredKernel kernel{folder.filename(), folder / "vmlinuz", folder / "initrd", {}};
  const fs::path info = folder / "info";
  if (kernel.name.starts_with('.') || !fs::exists(info)) return std::nullopt;
  StoredKernel found = kernel;
  found.version = line_value(text_of(info), "version=");
  return found;
}

// The newest kernel below a root folder (of an unpacked package, or "/") that can be read and has its
// modules.
std::optional<KernelTree> find_tree(const fs::path& root) {
  std::optional<KernelTree> newest;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(root / "boot", none)) {
    const std::string file = entry.path().filename();
    if (!file.starts_with(vmlinuz_prefix) || access(entry.path().c_str(), R_OK) != 0) continue;
    const std::string release = file.substr(vmlinuz_prefix.size());
    if (newest && !is_newer(release, newest->release)) continue;
    for (const char* place : {"lib/modules", "usr/lib/modules"}) {
      const fs::path modules = root / place / release;
      if (!fs::is_directory(modules / "kernel")) continue;
      newest = KernelTree{release, entry.path(), modules, root / "boot" / ("config-" + release), {}, {}};
    }
  }
  return newest;
}

// Downloads a package into the folder and answers its file. apt checks it against the signed index.
fs::path download(const std::string& package, const fs::path& folder) {
  fs::create_directory(folder);
  run_successfully({"apt-get", "download", "--quiet", package}, folder, need_apt);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".deb") return entry.path();
  }
  throw HostError(ENOENT, "find what 'apt-get download " + package + "' has downloaded", need_apt);
}

void unpack(const fs::path& deb, const fs::path& folder) {
  run_successfully({"dpkg-deb", "-x", deb, folder}, {}, need_dpkg);
}

std::string deb_field(const fs::path& deb, const std::string& field) {
  std::string value = run_successfully({"dpkg-deb", "-f", deb, field}, {}, need_dpkg);
  while (value.ends_with('\n')) value.pop_back();
  return value;
}

// The package that the flavour's package stands for: its name carries the release.
std::string real_package(GetOptions::Flavour flavour) {
  const std::string name =
      flavour == GetOptions::Flavour::cloud ? "linux-image-cloud-amd64" : "linux-image-amd64";
  const std::string answer =
      run_successfully({"apt-cache", "depends", "--no-recommends", "--no-suggests", name}, {}, need_apt);
  const std::string package =
      std::string(image_prefix) + line_value(answer, "  Depends: " + std::string(image_prefix));
  if (package == image_prefix) {
    throw HostError(ENOENT, "find the kernel that the package " + name + " stands for", need_apt);
  }
  return package;
}

std::vector<std::string> list_applets(const fs::path& busybox) {
  std::istringstream lines(run_successfully({busybox, "--list"}));
  std::vector<std::string> applets;
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty()) applets.push_back(line);
  }
  return applets;
}

// A busybox that runs in a guest without libraries: the host's, or that of the package.
fs::path find_busybox(const fs::path& work, const GetOptions& options) {
  const auto usable = [](const fs::path& path) {
    return access(path.c_str(), R_OK | X_OK) == 0 && is_static_executable(read_whole_file(path));
  };
  for (const char* path : {"/bin/busybox", "/usr/bin/busybox"}) {
    if (usable(path)) return path;
  }
  options.progress("downloading busybox-static");
  const fs::path root = work / "busybox";
  unpack(download("busybox-static", work / "busybox-package"), root);
  for (const char* path : {"bin/busybox", "usr/bin/busybox"}) {
    if (usable(root / path)) return root / path;
  }
  throw HostError(ENOENT, "find a static busybox in the package busybox-static", "install busybox-static");
}

std::string sha256(std::span<const std::byte> bytes) {
  sha256_ctx state;
  sha256_init(&state);
  sha256_update(&state, bytes.size(), reinterpret_cast<const std::uint8_t*>(bytes.data()));
  std::array<std::uint8_t, SHA256_DIGEST_SIZE> digest;
  sha256_digest(&state, digest.size(), digest.data());
  std::string text;
  for (const unsigned value : digest) {
    text += "0123456789abcdef"[value >> 4];
    text += "0123456789abcdef"[value & 15];
  }
  return text;
}

// Which of this program's versions an initrd was made by.
std::string init_line() {
  return "\ninit=" + sha256(guest_init());
}

// Everything of one kernel, into an empty folder.
void make_entry(const KernelTree& tree, const fs::path& work, const fs::path& entry,
                const GetOptions& options) {
  options.progress("making the initrd of " + tree.release);
  const std::vector<KernelModule> modules = module_closure(tree.modules, wanted_modules);
  const fs::path busybox = find_busybox(work, options);
  const std::vector<std::byte> busybox_bytes = read_whole_file(busybox);
  const std::vector<std::byte> kernel = read_whole_file(tree.vmlinuz);
  fs::create_directory(entry);
  write_whole_file(entry / "initrd",
                   make_initrd({guest_init(), busybox_bytes, list_applets(busybox), modules}));
  write_whole_file(entry / "vmlinuz", kernel);
  if (fs::exists(tree.config)) write_whole_file(entry / "config", read_whole_file(tree.config));
  write_whole_file(entry / "info", "release=" + tree.release + "\npackage=" + tree.package + "\nversion=" +
                                       tree.version + "\nsha256=" + sha256(kernel) + init_line() + "\n");
}

// The finished entry takes its place in the store, or that of its predecessor, which is then in the work
// folder.
void put_into_store(const fs::path& entry, const fs::path& place) {
  if (renameat2(AT_FDCWD, entry.c_str(), AT_FDCWD, place.c_str(), fs::exists(place) ? RENAME_EXCHANGE : 0U) !=
      0) {
    throw HostError(errno, "move the kernel to " + place.string());
  }
}

// Keeps other processes from changing the store; released by the descriptor's end.
Fd lock_store(const fs::path& store) {
  std::error_code failed;
  fs::create_directories(store, failed);
  if (failed)
    throw HostError(failed.value(), "make the folder " + store.string(), "set HUM_CACHE to another one");
  Fd lock = open_file(store / ".lock", O_RDWR | O_CREAT, 0644, "set HUM_CACHE to another folder");
  if (flock(lock.get(), LOCK_EX) != 0) throw HostError(errno, "lock " + store.string());
  return lock;
}

// What a process that was killed has left; the store is locked.
void remove_leftovers(const fs::path& store) {
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(store)) {
    if (entry.path().filename().string().starts_with(TemporaryFolder::prefix))
      leftovers.push_back(entry.path());
  }
  for (const fs::path& leftover : leftovers) fs::remove_all(leftover);
}

KernelTree installed_tree() {
  std::optional<KernelTree> tree = find_tree("/");
  if (!tree) {
    throw HostError(ENOENT, "find a kernel in /boot that can be read and has its modules in /lib/modules",
                    "only root may read /boot on some hosts; 'hum kernel get' downloads one");
  }
  tree->package = tree->version = "installed";
  return *tree;
}

// Downloads if no package is given, and unpacks.
KernelTree packaged_tree(const fs::path& work, const std::string& package, const GetOptions& options) {
  fs::path deb = options.from_deb;
  if (deb.empty()) {
    options.progress("downloading " + package);
    deb = download(package, work / "package");
  }
  options.progress("unpacking " + deb.filename().string());
  unpack(deb, work / "root");
  std::optional<KernelTree> tree = find_tree(work / "root");
  if (!tree) {
    throw ConfigError("kernel package", deb, "holds no kernel with modules",
                      "give a package linux-image-RELEASE (not one that only depends on it)");
  }
  tree->package = package;
  tree->version = deb_field(deb, "Version");
  return *tree;
}

}  // namespace

fs::path kernel_store_folder() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
  };
  if (const std::string cache = variable("HUM_CACHE"); !cache.empty()) return fs::absolute(cache) / "kernels";
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty())
    return fs::path(cache) / "hum/kernels";
  if (const std::string home = variable("HOME"); !home.empty()) return fs::path(home) / ".cache/hum/kernels";
  throw ConfigError("HUM_CACHE", "", "neither it nor XDG_CACHE_HOME nor HOME is set",
                    "set HUM_CACHE to a folder for kernels");
}

std::vector<StoredKernel> list_kernels() {
  std::vector<StoredKernel> kernels;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(kernel_store_folder(), none)) {
    if (auto kernel = stored(entry.path())) kernels.push_back(std::move(*kernel));
  }
  std::sort(kernels.begin(), kernels.end(),
            [](const StoredKernel& a, const StoredKernel& b) { return is_newer(a.name, b.name); });
  return kernels;
}

std::optional<StoredKernel> default_kernel() {
  std::vector<StoredKernel> kernels = list_kernels();
  if (kernels.empty()) return std::nullopt;
  return std::move(kernels.front());
}

StoredKernel get_kernel(const GetOptions& options) {
  const fs::path store = kernel_store_folder();
  const Fd lock = lock_store(store);
  remove_leftovers(store);
  const auto kept = [&](const std::string& release) {
    auto kernel = options.force ? std::nullopt : stored(store / release);
    if (kernel && text_of(store / release / "info").find(init_line()) == std::string::npos) kernel.reset();
    return kernel;
  };

  std::string package;
  if (!options.from_installed) {
    package =
        options.from_deb.empty() ? real_package(options.flavour) : deb_field(options.from_deb, "Package");
    if (package.starts_with(image_prefix)) {
      if (auto kernel = kept(package.substr(image_prefix.size()))) return *kernel;
    }
  }
  const TemporaryFolder work(store);
  const KernelTree tree =
      options.from_installed ? installed_tree() : packaged_tree(work.path(), package, options);
  if (auto kernel = kept(tree.release)) return *kernel;
  make_entry(tree, work.path(), work.path() / "entry", options);
  put_into_store(work.path() / "entry", store / tree.release);
  return stored(store / tree.release).value();
}

}  // namespace hum
