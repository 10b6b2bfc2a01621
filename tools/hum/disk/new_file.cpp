// SPDX-License-Identifier: Apache-2.0
#include "tools/hum/disk/new_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "vmm/base/errors.h"

namespace hum {

NewFile::NewFile(const std::string& key, const std::string& path) : key_(key), path_(path) {
  folder_ = std::filesystem::path(path).parent_path();
  if (folder_.empty()) folder_ = ".";
  std::error_code ignored;  // who cannot look cannot make it either
  if (std::filesystem::exists(std::filesystem::symlink_status(path, ignored))) refuse_existing();
  const std::string prefix = folder_ / (".new-" + std::to_string(::getpid()) + "-");
  for (int i = 0; !file_; ++i) {
    temporary_ = prefix + std::to_string(i);
    file_ = Fd(::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (!file_ && errno != EEXIST) refuse_folder(errno);
  }
}

NewFile::~NewFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void NewFile::publish() {
  if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) == 0) {
    temporary_.clear();
  } else if (errno == EEXIST) {
    refuse_existing();
  } else if (::link(temporary_.c_str(), path_.c_str()) != 0) {  // a file system without such a rename
    if (errno == EEXIST) refuse_existing();
    throw HostError(errno, "make '" + path_ + "'");
  }
  const Fd folder(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder) ::fsync(folder.get());
}

void NewFile::refuse_existing() const {
  throw ConfigError(key_, path_, "is there already", "give another name, or remove it first");
}

void NewFile::refuse_folder(int error) const {
  if (error == ENOENT || error == ENOTDIR)
    throw ConfigError(key_, path_, "there is no folder " + folder_.string(), "make it first");
  if (error == EACCES || error == EPERM || error == EROFS)
    throw ConfigError(key_, path_, "no file may be made in " + folder_.string(), "give another folder");
  throw HostError(error, "make a file in " + folder_.string());
}

}  // namespace hum
