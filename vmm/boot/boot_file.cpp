// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/boot_file.h"

#include <fcntl.h>
#include <nettle/sha2.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <vector>

#include "vmm/base/errors.h"

namespace hum::boot {
namespace {

constexpr std::size_t hash_chunk = 256 * 1024;

Fd open_for_reading(const std::string& key, const std::string& path) {
  if (path.empty()) throw ConfigError(key, "", "no file is given", "give the path of a file");
  // O_NONBLOCK: a FIFO must be refused, not waited for.
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (fd) return fd;
  switch (errno) {
    case ENOENT:
    case ENOTDIR:
      throw ConfigError(key, path, "there is no such file", "check the path");
    case EACCES:
    case EPERM:
      throw ConfigError(key, path, "it may not be read by this user",
                        "make it readable (sudo chmod a+r '" + path + "') or copy it");
    case ENXIO:
      throw ConfigError(key, path, "it is not a regular file", "give the path of a file");
    default:
      throw HostError(errno, "open '" + path + "'");
  }
}

bool same_time(const timespec& left, const timespec& right) {
  return left.tv_sec == right.tv_sec && left.tv_nsec == right.tv_nsec;
}

}  // namespace

BootFile::BootFile(std::string key, std::string path) : BootFile(key, path, open_for_reading(key, path)) {}

BootFile::BootFile(std::string key, std::string path, Fd fd)
    : key_(std::move(key)), path_(std::move(path)), fd_(std::move(fd)) {
  if (::fstat(fd_.get(), &status_) != 0) throw HostError(errno, "examine '" + path_ + "'");
  if (S_ISDIR(status_.st_mode)) fail("it is a directory", "give the path of a file");
  if (!S_ISREG(status_.st_mode)) fail("it is not a regular file", "copy its content to a file first");
  if (status_.st_size == 0) fail("it is empty", "copy or download it again");
}

void BootFile::read_at(std::uint64_t offset, std::span<std::byte> to) const {
  if (offset > size() || to.size() > size() - offset)
    fail_truncated("byte " + std::to_string(offset) + " and " + std::to_string(to.size()) + " from there");
  while (!to.empty()) {
    const ssize_t got = ::pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw HostError(errno, "read '" + path_ + "'");
    if (got == 0) fail("it became shorter while it was read", "try again when it is complete");
    to = to.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

void BootFile::read_into(const GuestMemory& memory, std::uint64_t offset, GuestRange range) const {
  std::vector<iovec> parts;
  memory.for_write(range, parts);
  for (const iovec& part : parts) {
    read_at(offset, {static_cast<std::byte*>(part.iov_base), part.iov_len});
    offset += part.iov_len;
  }
}

std::string BootFile::digest() const {
  sha256_ctx context;
  ::sha256_init(&context);
  const auto chunk = std::make_unique_for_overwrite<std::byte[]>(hash_chunk);
  for (std::uint64_t at = 0; at < size(); at += hash_chunk) {
    const std::span<std::byte> piece(chunk.get(), std::min<std::uint64_t>(hash_chunk, size() - at));
    read_at(at, piece);
    ::sha256_update(&context, piece.size(), reinterpret_cast<const std::uint8_t*>(piece.data()));
  }
  std::array<std::uint8_t, SHA256_DIGEST_SIZE> sum{};
  ::sha256_digest(&context, sum.size(), sum.data());
  std::string text;
  for (const std::uint8_t byte : sum) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

bool BootFile::is_unchanged() const {
  struct stat now{};
  return ::fstat(fd_.get(), &now) == 0 && now.st_size == status_.st_size &&
         same_time(now.st_mtim, status_.st_mtim) && same_time(now.st_ctim, status_.st_ctim);
}

void BootFile::fail(const std::string& problem, const std::string& fix) const {
  throw ConfigError(key_, path_, problem, fix);
}

void BootFile::fail_truncated(const std::string& what) const {
  fail("it is truncated: it has " + std::to_string(size()) + " bytes and should have " + what,
       "copy or download it again");
}

}  // namespace hum::boot
