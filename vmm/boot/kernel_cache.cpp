// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/kernel_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "vmm/boot/elf_image.h"

namespace hum::boot {
namespace {

// Makes the folder for this user alone, and whatever lies above it.
void make_folder(const std::string& folder) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(folder).parent_path(), ignored);
  ::mkdir(folder.c_str(), 0700);
}

bool same_file(int fd, const std::string& path) {
  struct stat opened{};
  struct stat named{};
  return ::fstat(fd, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

}  // namespace

KernelCache::KernelCache(const std::string& folder, const std::string& digest)
    : folder_(folder), path_(folder + "/" + digest + ".elf") {}

std::optional<BootFile> KernelCache::find(std::uint64_t size) const {
  Fd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0) return std::nullopt;
  const bool ours = S_ISREG(status.st_mode) && status.st_uid == ::geteuid() && (status.st_mode & 022) == 0;
  if (!ours || static_cast<std::uint64_t>(status.st_size) != size) return std::nullopt;
  std::array<std::byte, 4> magic{};
  if (::pread(fd.get(), magic.data(), magic.size(), 0) != ssize_t{magic.size()} || !is_elf(magic))
    return std::nullopt;
  return BootFile("kernel", path_, std::move(fd));
}

// The partial file has a fixed name, so a writer that died leaves at most one, which the next takes over; the
// lock tells whether its writer lives.
KernelCache::Writer::Writer(const KernelCache& cache)
    : final_path_(cache.path_), partial_path_(cache.path_ + ".partial") {
  make_folder(cache.folder_);
  Fd fd(::open(partial_path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (!fd || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return;
  // Its last writer may have renamed or removed it before we had the lock.
  if (!same_file(fd.get(), partial_path_)) return;
  if (::fchmod(fd.get(), 0600) != 0 || ::ftruncate(fd.get(), 0) != 0) return;
  fd_ = std::move(fd);
}

KernelCache::Writer::~Writer() {
  drop();
}

void KernelCache::Writer::write(std::uint64_t offset, std::span<const std::byte> piece) {
  while (fd_ && !piece.empty()) {
    const ssize_t put = ::pwrite(fd_.get(), piece.data(), piece.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return drop();
    piece = piece.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
}

void KernelCache::Writer::commit() {
  if (!fd_) return;
  // The data reaches the disk before the name does: after a power cut the entry is whole or absent.
  if (::fdatasync(fd_.get()) != 0 || std::rename(partial_path_.c_str(), final_path_.c_str()) != 0)
    return drop();
  fd_.reset();
}

void KernelCache::Writer::drop() {
  if (!fd_) return;
  ::unlink(partial_path_.c_str());
  fd_.reset();
}

}  // namespace hum::boot
