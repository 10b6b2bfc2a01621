// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/kernel_store_initrd.h"

#include <elf.h>

#include <cstring>
#include <set>

#include "tools/hum/cpio.h"
#include "tools/hum/guest/job.h"

namespace hum {
namespace {

constexpr std::string_view passwd =
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
constexpr std::string_view group = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
constexpr std::string_view hosts = "127.0.0.1 localhost\n::1 localhost\n";
constexpr std::string_view profile = "export PS1='\\u@\\h:\\w# '\nalias ll='ls -l'\n";

std::string_view relative(std::string_view path) {
  return path.substr(1);
}

}  // namespace

std::vector<std::byte> make_initrd(const InitrdParts& parts) {
  CpioWriter archive;
  for (const std::string_view folder :
       {"bin", "dev", "etc", "hum", "hum/lib", "mnt", "proc", "run", "sys", "usr", "var"}) {
    archive.folder(folder);
  }
  archive.folder("root", 0700);
  archive.folder("tmp", 01777);
  archive.symlink("sbin", "bin");
  archive.symlink("usr/bin", "../bin");
  archive.symlink("usr/sbin", "../bin");
  archive.symlink("var/run", "../run");
  archive.symlink("var/tmp", "../tmp");
  archive.character_device("dev/console", 5, 1);  // the kernel opens it for the first process

  archive.file("etc/passwd", passwd);
  archive.file("etc/group", group);
  archive.file("etc/hosts", hosts);
  archive.file("etc/profile", profile);
  archive.symlink("etc/mtab", "/proc/self/mounts");

  archive.file("init", parts.init, 0755);
  archive.file("bin/busybox", parts.busybox, 0755);
  for (const std::string& applet : parts.applets) {
    if (applet != "busybox") archive.symlink("bin/" + applet, "busybox");
  }

  std::string order;
  std::set<std::string> written;
  for (const KernelModule& module : parts.modules) {
    const std::string path = "hum/lib/" + module.name + ".ko";
    if (written.insert(path).second) archive.file(path, module.content);
    order += "/" + path;
    if (module.virtio_device != 0) order += " " + std::to_string(module.virtio_device);
    order += "\n";
  }
  archive.file(relative(hum_modules_path), order);
  return archive.finish();
}

bool is_static_executable(std::span<const std::byte> file) {
  Elf64_Ehdr header;
  if (file.size() < sizeof header) return false;
  std::memcpy(&header, file.data(), sizeof header);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_machine != EM_X86_64 || (header.e_type != ET_EXEC && header.e_type != ET_DYN)) {
    return false;
  }
  for (std::size_t index = 0; index < header.e_phnum; ++index) {
    Elf64_Phdr segment;
    const std::uint64_t offset = header.e_phoff + index * sizeof segment;
    if (offset > file.size() || file.size() - offset < sizeof segment) return false;
    std::memcpy(&segment, file.data() + offset, sizeof segment);
    if (segment.p_type == PT_INTERP) return false;
  }
  return true;
}

}  // namespace hum
