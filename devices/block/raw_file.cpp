// SPDX-License-Identifier: Apache-2.0
#include "devices/block/raw_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "vmm/base/errors.h"

namespace hum {
namespace {

BlockResult result_of(int error) {
  return error == ENOSPC || error == EDQUOT ? BlockResult::no_space : BlockResult::io_error;
}

// Calls some(parts, offset) until all parts are transferred. After a short transfer the rest of the part it
// ended in goes alone, so that the caller's iovecs need no copy.
template <class Some>
BlockResult transfer(std::span<const iovec> parts, std::uint64_t offset, Some&& some) {
  std::size_t done_of_first = 0;
  while (!parts.empty()) {
    const iovec rest{static_cast<std::byte*>(parts.front().iov_base) + done_of_first,
                     parts.front().iov_len - done_of_first};
    const ssize_t count = done_of_first == 0
                              ? some(parts.first(std::min<std::size_t>(parts.size(), IOV_MAX)), offset)
                              : some(std::span<const iovec>(&rest, 1), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return result_of(errno);
    if (count == 0) return BlockResult::io_error;  // the file has become shorter
    offset += static_cast<std::uint64_t>(count);
    done_of_first += static_cast<std::size_t>(count);
    while (!parts.empty() && done_of_first >= parts.front().iov_len) {
      done_of_first -= parts.front().iov_len;
      parts = parts.subspan(1);
    }
  }
  return BlockResult::ok;
}

bool is_permission(int error) {
  return error == EACCES || error == EPERM || error == EROFS || error == ETXTBSY;
}

// O_NONBLOCK keeps the open of a pipe from waiting.
Fd try_open(const std::string& path, int access) {
  return Fd(::open(path.c_str(), access | O_CLOEXEC | O_NONBLOCK));
}

Fd open_image(const std::string& key, const std::string& path, bool read_only) {
  Fd file = try_open(path, read_only ? O_RDONLY : O_RDWR);
  if (file) return file;
  const int error = errno;
  if (error == ENOENT || error == ENOTDIR)
    throw ConfigError(key, path, "no such file", "give the path of a disk image or of a block device");
  if (error == EISDIR)
    throw ConfigError(key, path, "is a directory", "give the path of a disk image or of a block device");
  if (is_permission(error) && !read_only && try_open(path, O_RDONLY))
    throw ConfigError(key, path, "is not writable", "make it writable, or add readonly=on");
  if (is_permission(error))
    throw ConfigError(key, path, "permission denied", "let this user read it, or run as one who may");
  throw HostError(error, "open '" + path + "'");
}

std::uint64_t size_of(const std::string& key, const std::string& path, const Fd& file) {
  struct stat status;
  if (::fstat(file.get(), &status) != 0) throw HostError(errno, "look at '" + path + "'");
  if (S_ISREG(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  if (!S_ISBLK(status.st_mode))
    throw ConfigError(key, path,
                      S_ISDIR(status.st_mode) ? "is a directory" : "is neither a file nor a block device",
                      "give the path of a disk image or of a block device");
  std::uint64_t size = 0;
  if (::ioctl(file.get(), BLKGETSIZE64, &size) != 0)
    throw HostError(errno, "ask for the size of '" + path + "'");
  return size;
}

// False where the file system has no locks. The lock belongs to the open file: it ends with the descriptor
// and also keeps this process from opening the image twice.
bool lock(const std::string& key, const std::string& path, const Fd& file, bool read_only) {
  struct flock whole = {};
  whole.l_type = read_only ? F_RDLCK : F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(file.get(), F_OFD_SETLK, &whole) == 0) return true;
  if (errno == EAGAIN || errno == EACCES)
    throw ConfigError(key, path, "is in use by another disk, of this or another virtual machine",
                      "end the other one, give a copy, or give readonly=on to all of them");
  return false;
}

}  // namespace

std::unique_ptr<RawFile> RawFile::open(const std::string& key, const std::string& path, bool read_only) {
  Fd file = open_image(key, path, read_only);
  const std::uint64_t size = size_of(key, path, file);
  if (::fcntl(file.get(), F_SETFL, 0) != 0) throw HostError(errno, "make '" + path + "' blocking");
  const bool locked = lock(key, path, file, read_only);
  auto image = std::make_unique<RawFile>(std::move(file), size);
  image->locked_ = locked;
  return image;
}

BlockResult RawFile::read(std::span<const iovec> to, std::uint64_t offset) {
  return transfer(to, offset,
                  [this](std::span<const iovec> parts, std::uint64_t at) { return read_some(parts, at); });
}

BlockResult RawFile::write(std::span<const iovec> from, std::uint64_t offset) {
  return transfer(from, offset,
                  [this](std::span<const iovec> parts, std::uint64_t at) { return write_some(parts, at); });
}

BlockResult RawFile::flush() {
  while (sync() != 0)
    if (errno != EINTR) return result_of(errno);
  return BlockResult::ok;
}

ssize_t RawFile::read_some(std::span<const iovec> to, std::uint64_t offset) {
  return ::preadv(file_.get(), to.data(), static_cast<int>(to.size()), static_cast<off_t>(offset));
}

ssize_t RawFile::write_some(std::span<const iovec> from, std::uint64_t offset) {
  return ::pwritev(file_.get(), from.data(), static_cast<int>(from.size()), static_cast<off_t>(offset));
}

int RawFile::sync() {
  return ::fdatasync(file_.get());
}

}  // namespace hum
