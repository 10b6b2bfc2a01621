// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/file_copy.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <memory>
#include <span>

#include "devices/block/copy_image.h"
#include "tools/humd/file_changes.h"
#include "vmm/base/errors.h"

namespace hum {
namespace {

constexpr std::size_t piece_size = 64UL * 1024;
constexpr std::uint64_t hole_piece = 16UL * 1024 * 1024;  // between two looks at the task

using Buffer = std::span<std::byte>;
// A part of the content at an offset; without bytes it is a hole, which reads as zeroes.
using Visit = std::function<void(std::uint64_t offset, std::span<const std::byte> bytes)>;

void read_piece(const FileContent& content, std::uint64_t offset, Buffer piece) {
  while (!piece.empty()) {
    const ssize_t count = ::pread(content.fd, piece.data(), piece.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw HostError(errno, "read '" + content.path + "'");
    if (count == 0)
      throw ConfigError(content.key, content.path, "became shorter while it was read",
                        "try again when nobody writes to it");
    offset += static_cast<std::uint64_t>(count);
    piece = piece.subspan(static_cast<std::size_t>(count));
  }
}

void write_piece(const Fd& file, const std::filesystem::path& path, std::uint64_t offset,
                 std::span<const std::byte> piece) {
  while (!piece.empty()) {
    const ssize_t count = ::pwrite(file.get(), piece.data(), piece.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw HostError(errno, "write '" + path.string() + "'");
    offset += static_cast<std::uint64_t>(count);
    piece = piece.subspan(static_cast<std::size_t>(count));
  }
}

// Where the data that begin at or behind offset begin, and end. What has no holes is all data.
struct Data {
  std::uint64_t begin;
  std::uint64_t end;
};
Data next_data(const FileContent& content, std::uint64_t offset) {
  const off_t data = ::lseek(content.fd, static_cast<off_t>(offset), SEEK_DATA);
  if (data < 0 && errno == ENXIO) return {content.size, content.size};
  if (data < 0) return {offset, content.size};
  const off_t hole = ::lseek(content.fd, data, SEEK_HOLE);
  const auto begin = static_cast<std::uint64_t>(data);
  const std::uint64_t end = hole > data ? static_cast<std::uint64_t>(hole) : content.size;
  return {std::min(begin, content.size), std::min(end, content.size)};
}

void add_zeroes(const FileTask& task, const FileContent& content, Data hole, Sha256& sum) {
  static constexpr std::array<std::byte, piece_size> zeroes{};
  for (std::uint64_t at = hole.begin, told = at; at < hole.end;) {
    const std::uint64_t size = std::min<std::uint64_t>(hole.end - at, zeroes.size());
    sum.add(std::span(zeroes).first(size));
    at += size;
    if (at - told >= hole_piece) task.tell(told = at, content.size);
  }
}

void visit_data(const FileTask& task, const FileContent& content, Sha256* sum, const Visit& visit) {
  const auto memory = std::make_unique_for_overwrite<std::byte[]>(piece_size);
  for (std::uint64_t at = 0; at < content.size;) {
    const Data data = next_data(content, at);
    if (sum != nullptr) add_zeroes(task, content, {at, data.begin}, *sum);
    for (at = data.begin; at < data.end;) {
      const Buffer piece(memory.get(), std::min<std::uint64_t>(piece_size, data.end - at));
      read_piece(content, at, piece);
      if (sum != nullptr) sum->add(piece);
      visit(at, piece);
      at += piece.size();
      task.tell(at, content.size);
    }
  }
}

// Less where the content has holes. A block device tells nothing of what it has.
std::uint64_t room_for(const FileContent& content) {
  struct stat status{};
  if (::fstat(content.fd, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
  return std::min(content.size, static_cast<std::uint64_t>(status.st_blocks) * 512);
}

}  // namespace

void copy_content(const FileTask& task, const FileContent& content, const std::filesystem::path& to,
                  Sha256* sum) {
  const Fd file = make_file(task, to);
  task.changes("copy");
  if (::ioctl(file.get(), FICLONE, content.fd) == 0) {
    // Of what the copy has: the content may have changed since.
    if (sum != nullptr) add_content(task, {file.get(), content.key, to.string(), content.size}, *sum);
  } else {
    expect_room(to.parent_path(), room_for(content), "store '" + content.path + "'");
    visit_data(task, content, sum, [&](std::uint64_t offset, std::span<const std::byte> piece) {
      if (is_zero(piece)) return;
      task.changes("write file");
      write_piece(file, to, offset, piece);
    });
  }
  task.changes("set size");
  if (::ftruncate(file.get(), static_cast<off_t>(content.size)) != 0)
    throw HostError(errno, "write '" + to.string() + "'");
  sync_file(task, file, to);
}

void add_content(const FileTask& task, const FileContent& content, Sha256& sum) {
  visit_data(task, content, &sum, [](std::uint64_t, std::span<const std::byte>) {});
}

}  // namespace hum
