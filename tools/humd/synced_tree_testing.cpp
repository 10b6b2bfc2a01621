// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/synced_tree_testing.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <stdexcept>

#include "tools/humd/image_testing.h"

namespace hum::testing {
namespace {

namespace fs = std::filesystem;

SyncedTree* present = nullptr;

}  // namespace

SyncedTree::SyncedTree(fs::path root, std::function<void()> before_sync)
    : root_(fs::canonical(root)), before_sync_(std::move(before_sync)) {
  if (present != nullptr) throw std::logic_error("there is another tree");
  keep(root_);
  for (const auto& each : fs::recursive_directory_iterator(root_)) keep(each.path());
  present = this;
}

SyncedTree::~SyncedTree() {
  present = nullptr;
}

SyncedTree::Id SyncedTree::id_of(const fs::path& path) {
  struct statx status{};
  if (::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &status) != 0)
    throw std::runtime_error("cannot look at " + path.string());
  return {status.stx_ino, status.stx_btime.tv_sec * 1'000'000'000 + status.stx_btime.tv_nsec};
}

SyncedTree::Entries SyncedTree::entries_of(const fs::path& folder) {
  Entries entries;
  for (const auto& each : fs::directory_iterator(folder))
    entries.emplace(each.path().filename(), id_of(each.path()));
  return entries;
}

void SyncedTree::keep(const fs::path& path) {
  if (fs::is_directory(path))
    folders_[id_of(path)] = entries_of(path);
  else
    files_[id_of(path)] = content_of(path);
}

void SyncedTree::is_to_be_synced() {
  if (present != nullptr && present->before_sync_) present->before_sync_();
}

void SyncedTree::was_synced(int fd) {
  if (present == nullptr) return;
  const fs::path path = fs::read_symlink("/proc/self/fd/" + std::to_string(fd));
  if (path == present->root_ || path.string().starts_with(present->root_.string() + "/")) present->keep(path);
}

void SyncedTree::put(const Id& folder, const fs::path& to) const {
  const auto found = folders_.find(folder);
  if (found == folders_.end()) return;
  for (const auto& [name, id] : found->second) {
    const auto file = files_.find(id);
    if (file != files_.end()) {
      write_whole_file(to / name, file->second);
    } else if (folders_.contains(id)) {
      fs::create_directory(to / name);
      put(id, to / name);
    }
  }
}

void SyncedTree::put_latest(const fs::path& folder, const fs::path& to) const {
  for (const auto& each : fs::directory_iterator(folder)) {
    const fs::path name = to / each.path().filename();
    if (each.is_directory()) {
      fs::create_directory(name);
      put_latest(each.path(), name);
      continue;
    }
    const auto file = files_.find(id_of(each.path()));
    write_whole_file(name, file == files_.end() ? std::string() : file->second);
  }
}

void SyncedTree::put(Names names, const fs::path& to) const {
  if (names == Names::latest) return put_latest(root_, to);
  put(id_of(root_), to);
}

}  // namespace hum::testing

// In place of the C library's, for all of this process.
extern "C" int fsync(int fd) {
  hum::testing::SyncedTree::is_to_be_synced();
  const auto result = static_cast<int>(::syscall(SYS_fsync, fd));
  if (result == 0) hum::testing::SyncedTree::was_synced(fd);
  return result;
}

extern "C" int fdatasync(int fd) {
  hum::testing::SyncedTree::is_to_be_synced();
  const auto result = static_cast<int>(::syscall(SYS_fdatasync, fd));
  if (result == 0) hum::testing::SyncedTree::was_synced(fd);
  return result;
}
