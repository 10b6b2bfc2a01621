// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "vmm/base/fd.h"

namespace hum {

// A file that has another name, in the same folder, until it is complete; without publish, nothing is left of
// it.
class NewFile {
 public:
  // key is the argument's name, for errors. Throws ConfigError (it is there already, no folder), HostError.
  NewFile(const std::string& key, const std::string& path);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  int fd() const { return file_.get(); }
  const std::string& temporary_path() const { return temporary_; }

  // Never takes the place of another file, not even of one made meanwhile.
  void publish();

 private:
  [[noreturn]] void refuse_existing() const;
  [[noreturn]] void refuse_folder(int error) const;

  std::string key_;
  std::string path_;
  std::filesystem::path folder_;
  std::string temporary_;
  Fd file_;
};

}  // namespace hum
