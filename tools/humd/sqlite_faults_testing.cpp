// SPDX-License-Identifier: Apache-2.0
#include "tools/humd/sqlite_faults_testing.h"

#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <utility>

namespace hum::testing {
namespace {

constexpr std::size_t sector = 512;

void write_at(std::string& content, std::uint64_t offset, std::string_view bytes) {
  if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size(), '\0');
  content.replace(offset, bytes.size(), bytes);
}

void change_content(std::string& content, const DiskChange& change) {
  if (change.kind == DiskChange::Kind::truncate) return content.resize(change.offset, '\0');
  write_at(content, change.offset, change.bytes);
}

bool tossed(std::mt19937& random) {
  return (random() & 1U) != 0;
}

// Those of its sectors that a coin says.
void tear(std::string& content, const DiskChange& change, std::mt19937& random) {
  if (change.kind != DiskChange::Kind::write) return;
  const std::string_view bytes = change.bytes;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t size = std::min<std::size_t>(sector - (change.offset + at) % sector, bytes.size() - at);
    if (tossed(random)) write_at(content, change.offset + at, bytes.substr(at, size));
    at += size;
  }
}

bool is_database(const std::string& name) {
  return name.find("-wal") == std::string::npos && name.find("-journal") == std::string::npos;
}

}  // namespace

// --- CachedDisk ---

void CachedDisk::apply(const DiskChange& change) {
  using Kind = DiskChange::Kind;
  std::shared_ptr<File>& file = names_[change.file];
  if (!file) file = std::make_shared<File>();
  switch (change.kind) {
    case Kind::create:
      break;
    case Kind::write:
    case Kind::truncate:
      file->unsynced.push_back(change);
      last_ = file;
      break;
    case Kind::sync:
      for (const DiskChange& each : file->unsynced) change_content(file->synced, each);
      file->unsynced.clear();
      if (std::exchange(file->is_new, false) && !is_database(change.file)) synced_names_ = names_;
      break;
    case Kind::failed_sync:
      file->unsynced.clear();
      break;
    case Kind::remove:
    case Kind::synced_remove:
      names_.erase(change.file);
      if (change.kind == Kind::synced_remove) synced_names_ = names_;
      break;
  }
}

std::map<std::string, std::string> CachedDisk::after_cut(Loss loss, std::mt19937& random) const {
  const bool old_names = loss == Loss::all || (loss == Loss::some && tossed(random));
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : old_names ? synced_names_ : names_) {
    std::string content = file->synced;
    for (const DiskChange& each : file->unsynced) {
      const bool is_last = file == last_.lock() && &each == &file->unsynced.back();
      if (loss == Loss::torn_last && is_last)
        tear(content, each, random);
      else if (loss == Loss::none || loss == Loss::torn_last || (loss == Loss::some && tossed(random)))
        change_content(content, each);
    }
    files.emplace(name, std::move(content));
  }
  return files;
}

// --- FaultyDisk ---

bool FaultyDisk::refuses(Refused what) {
  if (refused_at_ == 0 || what != refused_) return false;
  ++count_;
  const bool refused = count_ == refused_at_ || (lasting_ && count_ > refused_at_);
  has_refused_ = has_refused_ || refused;
  return refused;
}

void FaultyDisk::refuse(Refused what, unsigned n, bool lasting) {
  refused_ = what;
  refused_at_ = n;
  lasting_ = lasting;
  count_ = 0;
  has_refused_ = false;
}

void FaultyDisk::note(DiskChange change) {
  changes_.push_back(std::move(change));
}

// What SQLite calls. The memory of a file is SQLite's: this, and behind it the usual layer's.
struct FaultyDiskCalls {
  struct Layer {
    sqlite3_vfs calls;
    sqlite3_vfs* usual;
    FaultyDisk* disk;
  };
  struct File {
    sqlite3_file base;
    Layer* layer;
    std::string* name;  // null: none of the database's own
  };

  static FaultyDisk& disk_of(sqlite3_file* file) { return *reinterpret_cast<File*>(file)->layer->disk; }
  static sqlite3_file* usual(sqlite3_file* file) {
    return reinterpret_cast<sqlite3_file*>(reinterpret_cast<File*>(file) + 1);
  }
  static const sqlite3_io_methods& methods(sqlite3_file* file) { return *usual(file)->pMethods; }
  static Layer& layer_of(sqlite3_vfs* calls) { return *static_cast<Layer*>(calls->pAppData); }
  static std::string name_of(const char* path) { return std::filesystem::path(path).filename(); }

  static void before(FaultyDisk& disk) {
    if (disk.before_change_) disk.before_change_();
  }

  // --- files ---

  static int close(sqlite3_file* file) {
    delete std::exchange(reinterpret_cast<File*>(file)->name, nullptr);
    return methods(file).xClose(usual(file));
  }
  static int read(sqlite3_file* file, void* to, int size, sqlite3_int64 offset) {
    return methods(file).xRead(usual(file), to, size, offset);
  }
  static int write(sqlite3_file* file, const void* from, int size, sqlite3_int64 offset) {
    const std::string* const name = reinterpret_cast<File*>(file)->name;
    FaultyDisk& disk = disk_of(file);
    if (name == nullptr) return methods(file).xWrite(usual(file), from, size, offset);
    if (disk.refuses(FaultyDisk::Refused::write)) return SQLITE_FULL;
    before(disk);
    const int code = methods(file).xWrite(usual(file), from, size, offset);
    if (code == SQLITE_OK)
      disk.note({DiskChange::Kind::write, *name, static_cast<std::uint64_t>(offset),
                 std::string(static_cast<const char*>(from), static_cast<std::size_t>(size))});
    return code;
  }
  static int truncate(sqlite3_file* file, sqlite3_int64 size) {
    const std::string* const name = reinterpret_cast<File*>(file)->name;
    FaultyDisk& disk = disk_of(file);
    before(disk);
    const int code = methods(file).xTruncate(usual(file), size);
    if (code == SQLITE_OK && name != nullptr)
      disk.note({DiskChange::Kind::truncate, *name, static_cast<std::uint64_t>(size)});
    return code;
  }
  static int sync(sqlite3_file* file, int flags) {
    const std::string* const name = reinterpret_cast<File*>(file)->name;
    FaultyDisk& disk = disk_of(file);
    if (name == nullptr) return methods(file).xSync(usual(file), flags);
    if (disk.refuses(FaultyDisk::Refused::sync)) {
      disk.note({DiskChange::Kind::failed_sync, *name});
      return SQLITE_IOERR_FSYNC;
    }
    before(disk);
    // The disk of a test need not be synced: what is on it is what was noted.
    disk.note({DiskChange::Kind::sync, *name});
    return SQLITE_OK;
  }
  static int file_size(sqlite3_file* file, sqlite3_int64* size) {
    return methods(file).xFileSize(usual(file), size);
  }
  static int lock(sqlite3_file* file, int kind) { return methods(file).xLock(usual(file), kind); }
  static int unlock(sqlite3_file* file, int kind) { return methods(file).xUnlock(usual(file), kind); }
  static int check_lock(sqlite3_file* file, int* result) {
    return methods(file).xCheckReservedLock(usual(file), result);
  }
  static int control(sqlite3_file* file, int what, void* argument) {
    return methods(file).xFileControl(usual(file), what, argument);
  }
  static int sector_size(sqlite3_file* file) { return methods(file).xSectorSize(usual(file)); }
  static int characteristics(sqlite3_file* file) { return methods(file).xDeviceCharacteristics(usual(file)); }

  // Of the first version: without shared memory, which a store that is one process's does not need.
  static const sqlite3_io_methods& file_calls() {
    static const sqlite3_io_methods calls = [] {
      sqlite3_io_methods all{};
      all.iVersion = 1;
      all.xClose = close;
      all.xRead = read;
      all.xWrite = write;
      all.xTruncate = truncate;
      all.xSync = sync;
      all.xFileSize = file_size;
      all.xLock = lock;
      all.xUnlock = unlock;
      all.xCheckReservedLock = check_lock;
      all.xFileControl = control;
      all.xSectorSize = sector_size;
      all.xDeviceCharacteristics = characteristics;
      return all;
    }();
    return calls;
  }

  // --- the layer ---

  static int open(sqlite3_vfs* calls, const char* path, sqlite3_file* file, int flags, int* result) {
    constexpr int own = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL;
    Layer& layer = layer_of(calls);
    File& opened = *reinterpret_cast<File*>(file);
    opened = {};
    const bool noted = path != nullptr && (flags & own) != 0;
    const bool is_new = noted && !std::filesystem::exists(path);
    if (is_new) before(*layer.disk);
    const int code = layer.usual->xOpen(layer.usual, path, usual(file), flags, result);
    if (code != SQLITE_OK) return code;
    opened.base.pMethods = &file_calls();
    opened.layer = &layer;
    if (noted) opened.name = new std::string(name_of(path));
    if (is_new) layer.disk->note({DiskChange::Kind::create, *opened.name});
    return SQLITE_OK;
  }
  static int remove(sqlite3_vfs* calls, const char* path, int sync_folder) {
    Layer& layer = layer_of(calls);
    before(*layer.disk);
    const int code = layer.usual->xDelete(layer.usual, path, 0);
    if (code == SQLITE_OK)
      layer.disk->note(
          {sync_folder != 0 ? DiskChange::Kind::synced_remove : DiskChange::Kind::remove, name_of(path)});
    return code;
  }
  static int access(sqlite3_vfs* calls, const char* path, int flags, int* result) {
    return layer_of(calls).usual->xAccess(layer_of(calls).usual, path, flags, result);
  }
  static int full_path(sqlite3_vfs* calls, const char* path, int size, char* result) {
    return layer_of(calls).usual->xFullPathname(layer_of(calls).usual, path, size, result);
  }
  static int randomness(sqlite3_vfs* calls, int size, char* result) {
    return layer_of(calls).usual->xRandomness(layer_of(calls).usual, size, result);
  }
  static int sleep(sqlite3_vfs* calls, int microseconds) {
    return layer_of(calls).usual->xSleep(layer_of(calls).usual, microseconds);
  }
  static int time(sqlite3_vfs* calls, double* result) {
    return layer_of(calls).usual->xCurrentTime(layer_of(calls).usual, result);
  }
  static int last_error(sqlite3_vfs* calls, int size, char* result) {
    return layer_of(calls).usual->xGetLastError(layer_of(calls).usual, size, result);
  }
};

FaultyDisk::FaultyDisk() {
  static unsigned made = 0;
  name_ = "faulty-" + std::to_string(++made);
  using Calls = FaultyDiskCalls;
  const auto layer = std::make_shared<Calls::Layer>();
  layer->usual = sqlite3_vfs_find(nullptr);
  layer->disk = this;
  sqlite3_vfs& calls = layer->calls;
  calls.iVersion = 1;
  calls.szOsFile = static_cast<int>(sizeof(Calls::File)) + layer->usual->szOsFile;
  calls.mxPathname = layer->usual->mxPathname;
  calls.zName = name_.c_str();
  calls.pAppData = layer.get();
  calls.xOpen = Calls::open;
  calls.xDelete = Calls::remove;
  calls.xAccess = Calls::access;
  calls.xFullPathname = Calls::full_path;
  calls.xRandomness = Calls::randomness;
  calls.xSleep = Calls::sleep;
  calls.xCurrentTime = Calls::time;
  calls.xGetLastError = Calls::last_error;
  if (sqlite3_vfs_register(&calls, 0) != SQLITE_OK) throw std::runtime_error("SQLite takes no file layer");
  layer_ = layer;
}

FaultyDisk::~FaultyDisk() {
  sqlite3_vfs_unregister(&static_cast<FaultyDiskCalls::Layer*>(layer_.get())->calls);
}

}  // namespace hum::testing
