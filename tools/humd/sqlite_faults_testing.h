// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

// For tests only: a disk below SQLite that loses and refuses things as disks do.
namespace hum::testing {

// What SQLite did to one of the database's files.
struct DiskChange {
  enum class Kind : std::uint8_t {
    create,
    write,
    truncate,
    sync,
    failed_sync,
    remove,
    synced_remove,  // the folder was synced after it
  };
  Kind kind;
  std::string file;          // its name in the folder
  std::uint64_t offset = 0;  // of a write; of a truncate, the size
  std::string bytes{};       // of a write
};

// What a power cut does with changes that were not synced.
enum class Loss : std::uint8_t {
  all,        // none of them is there
  none,       // all are
  some,       // any of them, each wholly or not at all
  torn_last,  // all, and of the last write some of its sectors
};

// What is on a disk behind a write cache, by the rules that SQLite counts on: a synced file keeps its
// content, and its name once the folder is synced, which the first sync of a journal does, too. What a failed
// sync was to write is lost.
class CachedDisk {
 public:
  void apply(const DiskChange& change);
  // The files by their names.
  std::map<std::string, std::string> after_cut(Loss loss, std::mt19937& random) const;

 private:
  struct File {
    std::string synced{};
    std::vector<DiskChange> unsynced{};
    bool is_new = true;
  };
  using Names = std::map<std::string, std::shared_ptr<File>>;

  Names names_;
  Names synced_names_;
  std::weak_ptr<File> last_;
};

// A file layer of SQLite, by which a ManagerSettings::vfs means it as long as it is there. It does as the
// usual one does, writes down what changes, and fails as it is told. Belongs to one thread.
class FaultyDisk {
 public:
  enum class Refused : std::uint8_t { write, sync };

  FaultyDisk();
  ~FaultyDisk();
  FaultyDisk(const FaultyDisk&) = delete;
  FaultyDisk& operator=(const FaultyDisk&) = delete;

  const std::string& name() const { return name_; }
  const std::vector<DiskChange>& changes() const { return changes_; }
  // Called before each change.
  void before_change(std::function<void()> call) { before_change_ = std::move(call); }

  // Fails the n-th write (SQLITE_FULL) or sync (SQLITE_IOERR_FSYNC) from now on, 1 being the next; with
  // lasting all that come after it, too, until there is room.
  void refuse(Refused what, unsigned n, bool lasting);
  void make_room() { refused_at_ = 0; }
  bool has_refused() const { return has_refused_; }

 private:
  friend struct FaultyDiskCalls;
  bool refuses(Refused what);
  void note(DiskChange change);

  std::string name_;
  std::vector<DiskChange> changes_;
  std::function<void()> before_change_;
  Refused refused_ = Refused::write;
  unsigned refused_at_ = 0;  // 0: nothing is refused
  unsigned count_ = 0;
  bool lasting_ = false;
  bool has_refused_ = false;
  std::shared_ptr<void> layer_;
};

}  // namespace hum::testing
