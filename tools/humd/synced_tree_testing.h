// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>

// For tests only.
namespace hum::testing {

// What of a folder is on the disk itself: what a file or a folder had when it was synced last. Sees every
// fsync and fdatasync of this process as long as it is there; there is one at a time.
class SyncedTree {
 public:
  // Names of files may be on the disk before they are synced, and before what is in the files is.
  enum class Names : std::uint8_t { synced, latest };

  // All that is there counts as synced. before_sync: called before each sync.
  explicit SyncedTree(std::filesystem::path root, std::function<void()> before_sync = {});
  ~SyncedTree();
  SyncedTree(const SyncedTree&) = delete;
  SyncedTree& operator=(const SyncedTree&) = delete;

  // Makes what a power cut leaves, in an empty folder. A file that was never synced is empty.
  void put(Names names, const std::filesystem::path& to) const;

  // For the calls of the system.
  static void is_to_be_synced();
  static void was_synced(int fd);

 private:
  // A file's number may be used again; when it was made tells the two apart.
  using Id = std::pair<ino_t, std::int64_t>;
  using Entries = std::map<std::string, Id>;

  static Id id_of(const std::filesystem::path& path);
  static Entries entries_of(const std::filesystem::path& folder);
  void keep(const std::filesystem::path& path);
  void put(const Id& folder, const std::filesystem::path& to) const;
  void put_latest(const std::filesystem::path& folder, const std::filesystem::path& to) const;

  std::filesystem::path root_;
  std::function<void()> before_sync_;
  std::map<Id, Entries> folders_;
  std::map<Id, std::string> files_;
};

}  // namespace hum::testing
