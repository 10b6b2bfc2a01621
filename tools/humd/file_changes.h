// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "tools/humd/file_task.h"
#include "vmm/base/fd.h"

// Changes of folders whose content is to survive a process that is killed, and a loss of power. Each tells
// the task before it is made. All throw HostError.
namespace hum {

// A folder and what is above it, for this user alone, synced; one that is there already stays as it is.
void make_folders(const FileTask& task, const std::filesystem::path& path);
// A new, empty file, to be read and written.
Fd make_file(const FileTask& task, const std::filesystem::path& path);
// A new file with this content, synced.
void write_new_file(const FileTask& task, const std::filesystem::path& path, std::string_view content);

// What is in a file, or which names are in a folder, survives a loss of power.
void sync_file(const FileTask& task, const Fd& file, const std::filesystem::path& path);
void sync_folder(const FileTask& task, const std::filesystem::path& path);

// Gives a file or a folder its final name in another folder, and syncs both. False: there is something of
// that name, which is synced now.
bool publish(const FileTask& task, const std::filesystem::path& from, const std::filesystem::path& to);

// With all that is in it; nothing happens where there is none.
void remove_all(const FileTask& task, const std::filesystem::path& path);
// Takes a folder's name away, as `aside`, before anything in it is removed: it is there wholly, or not at
// all. Whether there was one, by either name.
bool remove_at_once(const FileTask& task, const std::filesystem::path& path,
                    const std::filesystem::path& aside);

// Throws HostError (ENOSPC) where the file system of a folder has less room than that, bytes. what is for the
// message: "store 'PATH'".
void expect_room(const std::filesystem::path& folder, std::uint64_t size, const std::string& what);

// Removes a folder unless its work was done.
class UnlessDone {
 public:
  explicit UnlessDone(std::filesystem::path path) : path_(std::move(path)) {}
  ~UnlessDone();
  UnlessDone(const UnlessDone&) = delete;
  UnlessDone& operator=(const UnlessDone&) = delete;

  void done() { path_.clear(); }

 private:
  std::filesystem::path path_;
};

}  // namespace hum
