// SPDX-License-Identifier: Apache-2.0
#include "tools/jailer/jail.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr mode_t outer_mode = 0755;
constexpr mode_t inner_mode = 0700;

struct Device {
  const Fd& folder;
  const char* name;
  dev_t number;
};

[[noreturn]] void refuse_program(const std::string& path, const std::string& problem) {
  throw ConfigError("--exec-file", path, problem, "give hum-vmm, or a static program");
}

std::string resolved(const std::string& key, const std::string& path, const std::string& fix) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
  if (real == nullptr) throw ConfigError(key, path, std::strerror(errno), fix);
  return real.get();
}

// Opens the folder, and makes it where it is not there. Never through a symbolic link.
Fd enter_folder(const Fd& parent, const std::string& name, mode_t mode, Undo& undo) {
  if (::mkdirat(parent.get(), name.c_str(), mode) == 0)
    undo.made(parent.get(), name, AT_REMOVEDIR);
  else if (errno != EEXIST)
    throw HostError(errno, "make the folder '" + name + "' of a jail");
  Fd folder(::openat(parent.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder)
    throw HostError(errno, "open '" + name + "' of a jail", "it must be a folder; move away what is there");
  return folder;
}

void own(const Fd& file, const JailerArguments& arguments, mode_t mode) {
  if (::fchmod(file.get(), mode) != 0 || ::fchown(file.get(), arguments.uid, arguments.gid) != 0)
    throw HostError(errno, "give a part of the jail to user " + std::to_string(arguments.uid));
}

// Keeps all but root out of a folder of the jail, whose user may have had it before: what is made in it then
// cannot be replaced before it has its owner.
void take(const Fd& folder, Undo& undo) {
  struct stat before{};
  if (::fstat(folder.get(), &before) != 0) throw HostError(errno, "look at a folder of the jail");
  undo.owned(folder.get(), before);
  if (::fchown(folder.get(), 0, 0) != 0 || ::fchmod(folder.get(), inner_mode) != 0)
    throw HostError(errno, "take a folder of the jail");
}

void copy(const Fd& from, const Fd& to) {
  struct stat status{};
  if (::fstat(from.get(), &status) != 0) throw HostError(errno, "read the executable");
  off_t at = 0;
  while (at < status.st_size) {
    const ssize_t count =
        ::sendfile(to.get(), from.get(), &at, static_cast<std::size_t>(status.st_size - at));
    if (count <= 0) throw HostError(count == 0 ? EIO : errno, "copy the executable into the jail");
  }
}

void check_mount(const Fd& folder, const std::string& path) {
  struct statvfs status{};
  if (::fstatvfs(folder.get(), &status) != 0) throw HostError(errno, "look at '" + path + "'");
  for (const auto& [flag, name] : {std::pair(ST_NODEV, "nodev"), {ST_NOEXEC, "noexec"}, {ST_RDONLY, "ro"}})
    if ((status.f_flag & static_cast<unsigned long>(flag)) != 0)
      throw ConfigError("--chroot-base-dir", path, std::string("is mounted with ") + name,
                        "give a folder on another file system, or mount that one without it");
}

}  // namespace

Fd open_executable(const std::string& path) {
  Fd file = open_file(path, O_RDONLY | O_NONBLOCK, 0, "give the path of hum-vmm");
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) throw HostError(errno, "read '" + path + "'");
  if (!S_ISREG(status.st_mode)) refuse_program(path, "is no file");
  Elf64_Ehdr header{};
  if (::pread(file.get(), &header, sizeof header, 0) != sizeof header ||
      std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != EM_X86_64 ||
      header.e_phentsize != sizeof(Elf64_Phdr))
    refuse_program(path, "is no program for this processor");
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    const auto at = static_cast<off_t>(header.e_phoff + i * sizeof segment);
    if (::pread(file.get(), &segment, sizeof segment, at) != sizeof segment)
      refuse_program(path, "is cut short");
    if (segment.p_type == PT_INTERP) refuse_program(path, "needs libraries, which a jail has not");
  }
  return file;
}

Fd open_network_namespace(const std::string& path) {
  Fd file = open_file(path, O_RDONLY | O_NONBLOCK, 0, "give one like /run/netns/NAME ('ip netns add NAME')");
  if (::ioctl(file.get(), NS_GET_NSTYPE) != CLONE_NEWNET)
    throw ConfigError("--netns", path, "is no network namespace",
                      "give one like /run/netns/NAME ('ip netns add NAME')");
  return file;
}

JailFolder::JailFolder(const JailerArguments& arguments, const Fd& executable, Undo& undo)
    : arguments_(arguments) {
  const std::string base =
      resolved("--chroot-base-dir", arguments.base, "make the folder, or give one that is there");
  Fd folder = open_file(base, O_RDONLY | O_DIRECTORY, 0, "give a folder");
  path_ = base;
  for (const std::string& name : {arguments.exec_name(), arguments.id, std::string("root")}) {
    folder = enter_folder(folder, name, outer_mode, undo);
    path_ += "/" + name;
  }
  // Its own mount, where a client has given it one on a base that is nodev or noexec.
  check_mount(folder, path_);
  root_ = std::move(folder);
  struct stat status{};
  if (::stat("/dev/userfaultfd", &status) == 0 && S_ISCHR(status.st_mode)) userfaultfd_ = status.st_rdev;
  const std::string name = arguments.exec_name();
  const Fd target(
      ::openat(root_.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0));
  if (!target && errno == EEXIST)
    throw ConfigError("--id", arguments.id, "there is a jail of that name, '" + path_ + "'",
                      "give another id, or remove the jail when nothing runs in it");
  if (!target) throw HostError(errno, "make '" + path_ + "/" + name + "'");
  undo.made(root_.get(), name);
  take(root_, undo);  // not before: now it is no other VM's
  copy(executable, target);
  own(target, arguments, 0500);
}

// pivot_root(2), NOTES: with "." for both, the old root lies on top of the new one until it is unmounted. The
// host's later mounts and unmounts below the folder still arrive: clients bind disks into it.
void JailFolder::enter(Undo& undo) {
  const char* const path = path_.c_str();
  if (::unshare(CLONE_NEWNS) != 0) throw HostError(errno, "make a mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr) != 0 ||
      ::mount(path, path, nullptr, MS_BIND | MS_REC, nullptr) != 0 || ::chdir(path) != 0)
    throw HostError(errno, "go to '" + path_ + "'");
  // A folder above it may be another's, who has put a link to elsewhere in its place.
  struct stat opened{};
  struct stat entered{};
  if (::fstat(root_.get(), &opened) != 0 || ::stat(".", &entered) != 0 || opened.st_dev != entered.st_dev ||
      opened.st_ino != entered.st_ino)
    throw HostError(ESTALE, "go to '" + path_ + "'", "let nobody else move what is there");
  if (::syscall(SYS_pivot_root, ".", ".") != 0 || ::umount2(".", MNT_DETACH) != 0 || ::chroot(".") != 0 ||
      ::chdir("/") != 0)
    throw HostError(errno, "make '" + path_ + "' the root of the jail");

  root_ = open_file("/", O_RDONLY | O_DIRECTORY);  // with what clients have mounted on it
  const Fd dev = enter_folder(root_, "dev", inner_mode, undo);
  take(dev, undo);
  const Fd net = enter_folder(dev, "net", inner_mode, undo);
  take(net, undo);
  const Fd run = enter_folder(root_, "run", inner_mode, undo);
  take(run, undo);
  // Numbers as in the kernel's list of devices, where userfaultfd has none of its own.
  std::vector<Device> devices = {
      {dev, "kvm", ::makedev(10, 232)}, {net, "tun", ::makedev(10, 200)}, {dev, "urandom", ::makedev(1, 9)}};
  if (userfaultfd_ != 0) devices.push_back({dev, "userfaultfd", userfaultfd_});
  for (const Device& device : devices) {
    if (::mknodat(device.folder.get(), device.name, S_IFCHR, device.number) != 0)
      throw HostError(errno, std::string("make the jail's device ") + device.name,
                      "as root, with the right to make devices; move away what is there");
    undo.made(device.folder.get(), device.name);
    if (::fchmodat(device.folder.get(), device.name, 0600, 0) != 0 ||
        ::fchownat(device.folder.get(), device.name, arguments_.uid, arguments_.gid, AT_SYMLINK_NOFOLLOW) !=
            0)
      throw HostError(errno, "give a device of the jail to user " + std::to_string(arguments_.uid));
  }
  for (const Fd* const folder : {&net, &dev, &run, static_cast<const Fd*>(&root_)})
    own(*folder, arguments_, inner_mode);
}

void JailFolder::write_pid(pid_t pid, Undo& undo) {
  const std::string name = arguments_.exec_name() + ".pid";
  const Fd file(
      ::openat(root_.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!file)
    throw HostError(errno, "make '" + name + "' in the jail", "remove what an earlier jail has left");
  undo.made(root_.get(), name);
  const std::string text = std::to_string(pid);
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    throw HostError(errno, "write '" + name + "' in the jail");
}

}  // namespace hum
