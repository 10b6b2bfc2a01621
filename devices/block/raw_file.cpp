// SPDX-License-Identifier: Apache-2.0
#include "devices/block/raw_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "devices/block/file_operation.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

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

// Asked behind the end, where there is nothing to lose. A block device answers for itself when it is used.
bool can_punch_holes(const Fd& file) {
  struct stat status;
  if (::fstat(file.get(), &status) != 0) return false;
  return S_ISBLK(status.st_mode) ||
         ::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, status.st_size, 4096) == 0;
}

}  // namespace

std::unique_ptr<RawFile> RawFile::open(const std::string& key, const std::string& path, bool read_only,
                                       BlockCache cache) {
  std::unique_ptr<RawFile> image(new RawFile);
  image->cache_ = cache;
  image->read_only_ = read_only;
  image->file_ = open_image(key, path, read_only);
  image->size_ = size_of(key, path, image->file_);
  if (::fcntl(image->file_.get(), F_SETFL, 0) != 0) throw HostError(errno, "make '" + path + "' blocking");
  image->locked_ = lock(key, path, image->file_, read_only);
  int logical = 0;
  unsigned physical = 0;
  if (::ioctl(image->file_.get(), BLKSSZGET, &logical) == 0 &&
      ::ioctl(image->file_.get(), BLKPBSZGET, &physical) == 0) {
    image->logical_block_size_ = static_cast<std::uint32_t>(logical);
    image->physical_block_size_ = physical;
  }
  image->has_discard_ = !read_only && can_punch_holes(image->file_);
  if (cache == BlockCache::direct) image->open_direct(key, path, read_only);
  return image;
}

void RawFile::unlock() {
  struct flock whole = {};
  whole.l_type = F_UNLCK;
  whole.l_whence = SEEK_SET;
  ::fcntl(file_.get(), F_OFD_SETLK, &whole);
  locked_ = false;
}

void RawFile::open_direct(const std::string& key, const std::string& path, bool read_only) {
  // By the descriptor: the path may mean another file by now.
  const std::string same = "/proc/self/fd/" + std::to_string(file_.get());
  direct_ = Fd(::open(same.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC));
  if (!direct_)
    throw ConfigError(key, path, "its file system has no direct I/O (O_DIRECT)",
                      "use cache=writeback, or move the image");
  // Linux 6.1 says what direct I/O wants; before it, a page suits all.
  struct statx status = {};
  const bool known = ::statx(direct_.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
                     (status.stx_mask & STATX_DIOALIGN) != 0 && status.stx_dio_offset_align != 0;
  memory_alignment_ = known ? status.stx_dio_mem_align : 4096;
  offset_alignment_ = known ? status.stx_dio_offset_align : 4096;
}

bool RawFile::fits_direct(const BlockOperation& operation) const {
  if ((operation.offset | operation.size) % offset_alignment_ != 0) return false;
  return std::all_of(operation.buffers.begin(), operation.buffers.end(), [this](const iovec& part) {
    return (reinterpret_cast<std::uintptr_t>(part.iov_base) | part.iov_len) % memory_alignment_ == 0;
  });
}

void RawFile::start(BlockEngine& engine, BlockOperation& operation) {
  using Kind = BlockOperation::Kind;
  if (operation.kind == Kind::flush && cache_ == BlockCache::unsafe) {
    operation.finished(BlockResult::ok);
    return;
  }
  const bool data = operation.kind == Kind::read || operation.kind == Kind::write;
  engine.start((data && direct_ && fits_direct(operation) ? direct_ : file_).get(), operation);
}

BlockResult RawFile::find_extent(std::uint64_t offset, std::uint64_t size, BlockExtent& extent) {
  extent = {.size = size, .host = offset};
  const auto seek = [&](int what) { return ::lseek(file_.get(), static_cast<off_t>(offset), what); };
  const off_t data = seek(SEEK_DATA);
  const bool hole = data < 0 ? errno == ENXIO : static_cast<std::uint64_t>(data) > offset;
  // A block device may know nothing of holes.
  const off_t end = hole ? data : seek(SEEK_HOLE);
  if (end > 0 && static_cast<std::uint64_t>(end) > offset)
    extent.size = std::min(size, static_cast<std::uint64_t>(end) - offset);
  extent.zero = hole;
  extent.data = !hole;
  return BlockResult::ok;
}

BlockResult RawFile::resize(BlockEngine& /*engine*/, std::uint64_t size) {
  struct stat status;
  if (::fstat(file_.get(), &status) != 0) return result_of(errno);
  if (read_only_ || size > INT64_MAX) return BlockResult::unsupported;
  if (S_ISBLK(status.st_mode)) {
    std::uint64_t there = 0;
    if (::ioctl(file_.get(), BLKGETSIZE64, &there) != 0) return result_of(errno);
    if (size > there) return BlockResult::unsupported;
  } else {
    if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0)
      return errno == EFBIG ? BlockResult::unsupported : result_of(errno);
    if (const BlockResult result = sync(); result != BlockResult::ok) return result;
  }
  size_ = size;
  return BlockResult::ok;
}

BlockResult RawFile::read(std::uint64_t offset, std::span<std::byte> data) {
  while (!data.empty()) {
    const ssize_t count = ::pread(file_.get(), data.data(), data.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return result_of(errno);
    if (count == 0) {
      std::fill(data.begin(), data.end(), std::byte{0});
      break;
    }
    offset += static_cast<std::uint64_t>(count);
    data = data.subspan(static_cast<std::size_t>(count));
  }
  return BlockResult::ok;
}

BlockResult RawFile::write(std::uint64_t offset, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t count = ::pwrite(file_.get(), data.data(), data.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return result_of(errno);
    offset += static_cast<std::uint64_t>(count);
    data = data.subspan(static_cast<std::size_t>(count));
  }
  if (offset > size_) size_ = offset;
  return BlockResult::ok;
}

BlockResult RawFile::sync() {
  if (cache_ == BlockCache::unsafe || ::fdatasync(file_.get()) == 0) return BlockResult::ok;
  return result_of(errno);
}

}  // namespace hum
