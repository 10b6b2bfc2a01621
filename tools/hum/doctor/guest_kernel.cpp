// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/doctor/guest_kernel.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <system_error>

#include "vmm/base/errors.h"

namespace hum::doctor {
namespace {

constexpr std::size_t most_modules = 50'000;
constexpr std::size_t most_text = 4 << 20;

struct FileSystem {
  std::string_view type;
  Driver driver;
};

constexpr Driver ext4{"ext4", "EXT4_FS", "ext4", "EXT4-fs ("};

constexpr std::array<FileSystem, 10> file_systems = {{
    {"ext4", ext4},
    {"ext3", ext4},  // Linux has no other driver for it
    {"ext2", ext4},
    {"xfs", {"xfs", "XFS_FS", "xfs", "XFS (%s)"}},
    {"btrfs", {"btrfs", "BTRFS_FS", "btrfs", "BTRFS "}},
    {"squashfs", {"squashfs", "SQUASHFS", "squashfs", "SQUASHFS error"}},
    {"erofs", {"erofs", "EROFS_FS", "erofs", "erofs (device"}},
    {"f2fs", {"f2fs", "F2FS_FS", "f2fs", "F2FS-fs ("}},
    {"vfat", {"vfat", "VFAT_FS", "vfat", ""}},
    {"iso9660", {"iso9660", "ISO9660_FS", "isofs", "ISOFS: "}},
}};

constexpr std::array<const Driver*, 4> other_drivers = {&drivers::virtio_pci, &drivers::virtio_mmio,
                                                        &drivers::virtio_blk, &drivers::serial_console};

std::vector<std::string_view> all_texts() {
  std::vector<std::string_view> texts;
  for (const Driver* const each : other_drivers) texts.push_back(each->text);
  for (const FileSystem& each : file_systems)
    if (!each.driver.text.empty()) texts.push_back(each.driver.text);
  return texts;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(most_text, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(file.bad() ? 0 : static_cast<std::size_t>(file.gcount()));
  return text;
}

// "lib/modules/6.1.0/kernel/fs/x.ko", "usr/lib/modules/6.1.0/x.ko" -> "6.1.0"
std::string_view release_of(std::string_view path) {
  constexpr std::string_view folder = "lib/modules/";
  const std::size_t at = path.find(folder);
  if (at == std::string_view::npos) return {};
  path.remove_prefix(at + folder.size());
  const std::size_t end = path.find('/');
  return end == std::string_view::npos ? std::string_view() : path.substr(0, end);
}

}  // namespace

const Driver* drivers::of_file_system(const std::string& type) {
  const auto found = std::find_if(file_systems.begin(), file_systems.end(),
                                  [&](const FileSystem& each) { return each.type == type; });
  return found == file_systems.end() ? nullptr : &found->driver;
}

GuestKernel::GuestKernel(const BootPlan& plan) {
  if (!plan.kernel.empty()) read_kernel(plan);
  if (!plan.initrd.empty()) read_initrd(plan);
  if (!plan.kernel.empty()) find_options(plan);
}

void GuestKernel::read_kernel(const BootPlan& plan) {
  const std::vector<std::string_view> texts = all_texts();
  try {
    facts_ = examine_kernel(plan.kernel, texts);
  } catch (const std::exception& error) {
    kernel_error_ = error.what();
    return;
  }
  for (std::size_t i = 0; i < texts.size(); ++i)
    if (facts_.texts[i]) drivers_.texts.emplace(texts[i]);
}

void GuestKernel::read_initrd(const BootPlan& plan) {
  const auto see = [this](std::string_view path) {
    has_init_ = has_init_ || path == "init";
    see_module(path);
    const std::string_view release = release_of(path);
    return path.ends_with("/modules.builtin") && (facts_.version.empty() || release == facts_.version);
  };
  const auto take = [this](std::string_view, std::span<const std::byte> content) {
    take_built_in({reinterpret_cast<const char*>(content.data()), content.size()});
  };
  try {
    initrd_ = examine_initrd(plan.initrd, see, take);
    initrd_error_ = initrd_.problem;
  } catch (const std::exception& error) {
    initrd_error_ = error.what();
  }
  drivers_.initrd_known = initrd_error_.empty();
}

// Modules that are not in a kernel's own folder are loaded by their path, and count for any kernel.
void GuestKernel::see_module(std::string_view path) {
  std::string name = module_name(path);
  if (name.empty() || drivers_.modules.size() >= most_modules) return;
  const std::string_view release = release_of(path);
  if (!release.empty() && !facts_.version.empty() && release != facts_.version) {
    if (foreign_release_.empty()) foreign_release_ = release.substr(0, 64);
    return;
  }
  drivers_.modules.insert(std::move(name));
}

void GuestKernel::take_built_in(std::string_view text) {
  while (!text.empty() && drivers_.built_in.size() < most_modules) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (std::string name = module_name(line); !name.empty()) drivers_.built_in.insert(std::move(name));
  }
}

bool GuestKernel::take_options(const std::string& path) {
  KernelOptions options(read_text(path));
  if (options.empty()) return false;
  drivers_.options = std::move(options);
  options_from_ = path;
  return true;
}

void GuestKernel::find_options(const BootPlan& plan) {
  drivers_.options = KernelOptions(facts_.configuration);
  if (!drivers_.options.empty()) {
    options_from_ = "the kernel itself";
    return;
  }
  const std::size_t slash = plan.kernel.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : plan.kernel.substr(0, slash + 1);
  // A version is made of letters, digits and a few signs: it cannot lead out of a folder.
  const std::string& version = facts_.version;
  if (!version.empty()) {
    if (take_options(folder + "config-" + version)) return;
    if (take_options(plan.host_root + "/boot/config-" + version)) return;
    if (take_options(plan.host_root + "/lib/modules/" + version + "/config")) return;
  }
  const std::string beside = folder + "config";
  const std::string text = read_text(beside);
  const std::string number = version.substr(0, version.find('-'));
  // "# Linux/x86 6.1.192 Kernel Configuration": distributions count on in the number, not in the release.
  const std::string series = number.substr(0, number.rfind('.'));
  if (!series.empty() && text.find("# Linux/x86 " + series + ".") != std::string::npos &&
      take_options(beside))
    return;
  if (drivers_.built_in.empty() && !version.empty())
    take_built_in(read_text(plan.host_root + "/lib/modules/" + version + "/modules.builtin"));
}

}  // namespace hum::doctor
