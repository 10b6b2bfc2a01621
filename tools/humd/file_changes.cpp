// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/file_changes.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "vmm/base/errors.h"
#include "vmm/base/options.h"

namespace hum {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  struct stat status{};
  return ::lstat(path.c_str(), &status) == 0;
}

std::string quoted(const fs::path& path) {
  return "'" + path.string() + "'";
}

}  // namespace

void make_folders(const FileTask& task, const fs::path& path) {
  struct stat status{};
  // Whoever has made it may have been killed before it was synced.
  if (::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode))
    return sync_folder(task, path.parent_path());
  if (path.has_relative_path()) make_folders(task, path.parent_path());
  task.changes("make folder");
  // Another operation may have made it meanwhile.
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    throw HostError(errno, "make the folder " + quoted(path));
  sync_folder(task, path.parent_path());
}

Fd make_file(const FileTask& task, const fs::path& path) {
  task.changes("make file");
  return open_file(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
}

void write_new_file(const FileTask& task, const fs::path& path, std::string_view content) {
  const Fd file = make_file(task, path);
  task.changes("write file");
  while (!content.empty()) {
    const ssize_t count = ::write(file.get(), content.data(), content.size());
    if (count < 0) throw HostError(errno, "write " + quoted(path));
    content.remove_prefix(static_cast<std::size_t>(count));
  }
  sync_file(task, file, path);
}

void sync_file(const FileTask& task, const Fd& file, const fs::path& path) {
  task.changes("sync file");
  if (::fsync(file.get()) != 0) throw HostError(errno, "sync " + quoted(path));
}

void sync_folder(const FileTask& task, const fs::path& path) {
  task.changes("sync folder");
  const Fd folder = open_file(path, O_RDONLY | O_DIRECTORY);
  if (::fsync(folder.get()) != 0) throw HostError(errno, "sync the folder " + quoted(path));
}

bool publish(const FileTask& task, const fs::path& from, const fs::path& to) {
  task.changes("rename");
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno != EEXIST && errno != ENOTEMPTY) throw HostError(errno, "make " + quoted(to));
    sync_folder(task, to.parent_path());
    return false;
  }
  sync_folder(task, to.parent_path());
  if (from.parent_path() != to.parent_path()) sync_folder(task, from.parent_path());
  return true;
}

void remove_all(const FileTask& task, const fs::path& path) {
  std::error_code error;
  const fs::file_type type = fs::symlink_status(path, error).type();
  if (type == fs::file_type::not_found) return;
  if (type == fs::file_type::directory) {
    std::vector<fs::path> inside;
    for (fs::directory_iterator each(path, error), end; !error && each != end; each.increment(error))
      inside.push_back(each->path());
    for (const fs::path& each : inside) remove_all(task, each);
  }
  task.changes("remove");
  if (!error) fs::remove(path, error);
  if (error) throw HostError(error.value(), "remove " + quoted(path));
}

bool remove_at_once(const FileTask& task, const fs::path& path, const fs::path& aside) {
  const bool begun = is_there(aside);
  remove_all(task, aside);
  if (!is_there(path)) return begun;
  task.changes("rename");
  if (::rename(path.c_str(), aside.c_str()) != 0) throw HostError(errno, "remove " + quoted(path));
  sync_folder(task, path.parent_path());
  remove_all(task, aside);
  return true;
}

void expect_room(const fs::path& folder, std::uint64_t size, const std::string& what) {
  struct statvfs status{};
  if (::statvfs(folder.c_str(), &status) != 0) throw HostError(errno, "look at " + quoted(folder));
  const std::uint64_t room = std::uint64_t{status.f_bavail} * status.f_frsize;
  if (size > room)
    throw HostError(ENOSPC, what,
                    "it needs " + format_size(size) + " and " + quoted(folder) + " has room for " +
                        format_size(room) + "; make room there, or remove images and volumes");
}

UnlessDone::~UnlessDone() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

}  // namespace hum
